/** Making and opening repositories and volumes. */
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import test from 'ava';
import { Repository } from '../../src/repository.ts';
import { codeOf, FAST_SCRYPT, makeFastRepository } from '../support/library.ts';
import { PASSPHRASE, sh, workspace } from '../support/workspace.ts';

function init(root: string, passphrase: string = PASSPHRASE): Promise<unknown> {
  return Repository.init(root, { passphrase, scrypt: FAST_SCRYPT });
}

test('init makes the folders and files of the format, for their owner only, whatever the umask', async (t) => {
  const ws = workspace(t);
  await init(ws.repo);
  t.deepEqual(readdirSync(ws.repo).sort(), ['README.txt', 'keys', 'locks', 'recover.py', 'repository.json', 'trash', 'volumes']);
  t.is(sh('find', ws.root, '-path', `${ws.repo}*`, '-perm', '/077'), '');
  t.is(readdirSync(path.join(ws.repo, 'keys')).length, 1);
  t.deepEqual(readdirSync(path.join(ws.repo, 'locks')), []);
});

test('init takes an empty folder, and one with lost+found in it', async (t) => {
  const ws = workspace(t);
  await init(ws.folder('empty'));
  ws.folder('disk', 'lost+found');
  await init(ws.at('disk'));
  await Repository.open(ws.at('disk'), { passphrase: PASSPHRASE });
  t.pass();
});

test('init refuses what is there already, and changes nothing', async (t) => {
  const ws = workspace(t);
  await init(ws.repo);
  const before = sh('find', ws.repo, '-printf', '%p %T@ %i\n');
  t.is(await codeOf(() => init(ws.repo)), 'REPOSITORY_EXISTS');
  t.is(sh('find', ws.repo, '-printf', '%p %T@ %i\n'), before);
  writeFileSync(path.join(ws.folder('used'), 'file'), '');
  t.is(await codeOf(() => init(ws.at('used'))), 'TARGET_INVALID');
  t.deepEqual(readdirSync(ws.at('used')), ['file']);
  writeFileSync(ws.at('file'), 'content');
  t.not(await codeOf(() => init(ws.at('file'))), undefined);
  t.is(readFileSync(ws.at('file'), 'utf8'), 'content');
  t.is(await codeOf(() => init(ws.at('missing', 'folder'))), 'IO_ERROR');
});

test('init refuses a file system that has no hardlinks (1), and leaves nothing there', async (t) => {
  const ws = workspace(t);
  writeFileSync(ws.at('nolinks.cc'), '#include <cerrno>\nextern "C" int link(const char *, const char *) { errno = EPERM; return -1; }\n');
  sh('g++', '-shared', '-fPIC', '-o', ws.at('nolinks.so'), ws.at('nolinks.cc'));
  for (const root of [ws.folder('repo'), ws.at('new')]) {
    const { status, stdout } = await ws.cliIn({ LD_PRELOAD: ws.at('nolinks.so'), TIMEBAND_REPO: root }, 'init', '--json');
    t.is(status, 1);
    t.is(JSON.parse(stdout).error.code, 'UNSUPPORTED');
  }
  t.deepEqual(readdirSync(ws.at('repo')), []);
  t.false(existsSync(ws.at('new')));
});

test('a repository opens with its passphrase in any Unicode form, and with no other', async (t) => {
  const ws = workspace(t);
  await init(ws.repo, 'Blåbær\u0308');
  for (const passphrase of ['Blåbær\u0308', 'Blåbær\u0308'.normalize('NFD'), 'Blåbær\u0308'.normalize('NFC')])
    (await Repository.open(ws.repo, { passphrase })).close();
  for (const passphrase of ['', 'blåbær\u0308', 'Blåbær', PASSPHRASE])
    t.is(await codeOf(() => Repository.open(ws.repo, { passphrase })), 'WRONG_KEY');
});

test('the exported master key opens the repository, another one reads no volume', async (t) => {
  const ws = workspace(t);
  await init(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  await repository.createVolume('disk');
  using again = await Repository.open(ws.repo, repository.exportKey());
  t.is((await again.volume('disk')).name, 'disk');
  using wrong = await Repository.open(ws.repo, { masterKey: new Uint8Array(32).fill(1) });
  const { volumes, damaged } = await wrong.listVolumes();
  t.is(volumes.length, 0);
  t.is(damaged[0]?.error.code, 'RECORD_CORRUPT');
});

test('what is no repository is REPOSITORY_NOT_FOUND; one of a newer format is told apart', async (t) => {
  const ws = workspace(t);
  t.is(await codeOf(() => Repository.open(ws.at('nowhere'), { passphrase: PASSPHRASE })), 'REPOSITORY_NOT_FOUND');
  t.is(await codeOf(() => Repository.open(ws.folder('empty'), { passphrase: PASSPHRASE })), 'REPOSITORY_NOT_FOUND');
  writeFileSync(ws.at('file'), '');
  t.is(await codeOf(() => Repository.open(ws.at('file'), { passphrase: PASSPHRASE })), 'REPOSITORY_NOT_FOUND');
  await init(ws.repo);
  const config = path.join(ws.repo, 'repository.json');
  writeFileSync(config, readFileSync(config, 'utf8').replace('"version": 1', '"version": 2'));
  t.is(await codeOf(() => Repository.open(ws.repo, { passphrase: PASSPHRASE })), 'REPOSITORY_VERSION');
});

test('volumes are found by name, slashes and all; a name is taken once', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  for (const name of ['work', 'work/private', 'Größe 2', '日本']) await repository.createVolume(name);
  t.deepEqual((await repository.listVolumes()).volumes.map(({ name }) => name).sort(), ['Größe 2', 'work', 'work/private', '日本'].sort());
  t.is((await repository.volume('work/private')).name, 'work/private');
  t.is(await codeOf(() => repository.createVolume('work')), 'VOLUME_EXISTS');
  t.is(await codeOf(() => repository.volume('Work')), 'VOLUME_NOT_FOUND');
  for (const name of ['', '/a', 'a/', 'a//b', '../a', 'a/latest', 'a@b', 'a=b', 'a\nb', '20261121T100000.123Z', 'x'.repeat(256)])
    t.is(await codeOf(() => repository.createVolume(name)), 'USAGE', name);
  for (const bandBytes of [0, 131_072, 262_145, 134_217_728]) t.is(await codeOf(() => repository.createVolume('new', { bandBytes })), 'USAGE');
  t.is((await repository.listVolumes()).volumes.length, 4);
});

test('of two that make a volume of one name at once, one makes it', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  const codes = await Promise.all(Array.from({ length: 6 }, () => codeOf(() => repository.createVolume('disk'))));
  t.is(codes.filter((code) => code === undefined).length, 1);
  t.true(codes.every((code) => code === undefined || code === 'VOLUME_EXISTS' || code === 'LOCKED'));
  t.is((await repository.listVolumes()).volumes.length, 1);
});

test('volumes of several names can be made at the same time', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  const names = Array.from({ length: 8 }, (_, i) => `v${i}`);
  t.deepEqual(await Promise.all(names.map((name) => codeOf(() => repository.createVolume(name)))), Array(8).fill(undefined));
  t.is((await repository.listVolumes()).volumes.length, 8);
});

test('no name of a volume, and no key, stands in the repository in the clear', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  const volume = await repository.createVolume('a very secret name', { note: 'a very secret note' });
  t.is(sh('/bin/sh', '-c', `grep -rc secret ${ws.repo} | grep -v ':0$' | grep -vE "README|recover[.]py" || true`), '');
  t.true(existsSync(volume.layout.record));
  t.is(statSync(volume.layout.record).mode & 0o777, 0o600);
});

test('an unfinished volume that a killed process left is passed over, and removed when the next one is made', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  mkdirSync(path.join(ws.repo, 'volumes', '.tmp-00112233445566778899aabbccddeeff'));
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  t.deepEqual(await repository.listVolumes(), { volumes: [], damaged: [] });
  const { id } = await repository.createVolume('disk');
  t.deepEqual(readdirSync(path.join(ws.repo, 'volumes')), [id]);
});

test('a folder of volumes or sessions that is not there is an error, not an empty repository', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  const volume = await repository.createVolume('disk');
  await repository.createVolume('other');
  rmdirSync(volume.layout.sessions);
  t.is(await codeOf(() => volume.sessionIds()), 'RECORD_MISSING');
  for (const args of [
    ['sessions', 'disk'],
    ['sync', 'disk'],
    ['restore', 'disk', ws.at('out')],
  ]) {
    const { status, stderr } = await ws.cli(...args);
    t.not(status, 0);
    t.true(stderr.includes(`${volume.layout.sessions}: the folder is missing`), stderr);
  }
  const { volumes, damaged } = await ws.json('volumes');
  t.deepEqual([volumes.map(({ name }: { name: string }) => name), damaged.map(({ id }: { id: string }) => id)], [['other'], [volume.id]]);
  t.deepEqual(
    (await ws.json('check')).findings.map(({ code, volume }: { code: string; volume: string }) => [code, volume]),
    [['RECORD_MISSING', 'disk']],
  );
  rmSync(repository.layout.volumes, { recursive: true });
  t.is(await codeOf(() => repository.listVolumes()), 'RECORD_MISSING');
  for (const command of ['volumes', 'sessions', 'check']) t.is((await ws.cli(command)).status, 13, command);
});

test('a record that the system cannot open just now is an error of the system, not a damaged volume', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  await repository.createVolume('other');
  const { layout } = await repository.createVolume('disk');
  rmSync(layout.record);
  t.deepEqual(
    (await repository.listVolumes()).damaged.map(({ error }) => error.code),
    ['RECORD_MISSING'],
  );
  const socket = createServer().listen(layout.record); // opening one fails with ENXIO
  t.teardown(() => socket.close());
  await once(socket, 'listening');
  t.is(await codeOf(() => repository.listVolumes()), 'IO_ERROR');
});

test('a volume that was removed while somebody waited for its lock is not found, and nothing of the lock is left', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE }, { lockWaitMs: 60_000 });
  const volume = await repository.createVolume('disk');
  const lock = await repository.lockVolume(volume, 'sync');
  const waiting = codeOf(() => repository.lockVolume(volume, 'delete'));
  await repository.removeEmptyVolume(volume);
  await lock.release();
  t.is(await waiting, 'VOLUME_NOT_FOUND');
  t.deepEqual(readdirSync(repository.layout.locks), []);
  t.deepEqual(readdirSync(repository.layout.volumes), []);
});
