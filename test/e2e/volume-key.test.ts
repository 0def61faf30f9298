/** The exported key of one volume: everything with that volume, nothing with any other. */
import { copyFileSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, makeFastRepository } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { recover } from '../support/recover.ts';
import { type CliResult, PASSPHRASE, type Workspace, workspace } from '../support/workspace.ts';

const SECRETS = ['vault/secret', 'the tag of the vault', 'the note of the vault', 'vault.img'];

interface Scene extends Workspace {
  readonly ids: { readonly own: string; readonly other: string };
  /** Runs `timeband` with nothing but the exported key, on a machine that has seen nothing of the repository. */
  held(...args: string[]): Promise<CliResult>;
}

async function ready(t: ExecutionContext): Promise<Scene> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  await using pool = new BandPool();
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  for (const [name, file] of [
    ['work', 'work.img'],
    ['vault/secret', 'vault.img'],
  ] as const) {
    writeParts(ws.at(file), 1_048_576, [{ at: 0, bytes: fill(file, 600_000) }]);
    const labels = name === 'work' ? {} : { tags: ['the-tag-of-the-vault'], note: 'the note of the vault' };
    await syncVolume(repository, { name, location: ws.at(file), bandBytes: BAND_256K, ...labels }, { pool });
  }
  const ids = { own: (await repository.volume('work')).id, other: (await repository.volume('vault/secret')).id };
  await ws.ok('key', 'export', 'work', ws.at('work.key'));
  const env = { TIMEBAND_PASSPHRASE: undefined, TIMEBAND_VOLUME_KEY_FILE: ws.at('work.key'), TIMEBAND_STATE_DIR: ws.at('elsewhere') };
  return { ...ws, ids, held: (...args) => ws.cliIn(env, ...args) };
}

test.serial('it lists, syncs, restores, verifies, mounts and changes its volume', async (t) => {
  const scene = await ready(t);
  t.is(statSync(scene.at('work.key')).mode & 0o777, 0o600);
  const ok = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await scene.held(...args);
    t.is(status, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  t.is(JSON.parse(await ok('key', 'test', '--json')).volume, 'work');
  writeParts(scene.at('work.img'), 1_048_576, [{ at: 500_000, bytes: fill('changed', 1000) }]);
  await ok('sync', 'work', '--tag', 'by-the-key');
  await ok('restore', 'work@by-the-key', scene.at('out.img'));
  t.is(firstWrongByte(scene.at('out.img'), scene.at('work.img')), undefined);
  t.regex(await ok('diff', 'work@latest~1', 'work@latest'), /262144/);
  t.is(JSON.parse(await ok('check', '--data', '--json')).sessions, 2);
  const mount = scene.folder('mnt');
  await ok('mount', mount);
  t.deepEqual(readdirSync(mount), ['work']);
  t.is(firstWrongByte(path.join(mount, 'work', 'latest', 'image'), scene.at('work.img')), undefined);
  await ok('unmount', mount);
  await ok('delete', 'work@latest~1', '--yes');
  t.is((await scene.cli('check', '--data')).status, 0, 'and all of it is right for whoever has the passphrase');
});

test.serial('it neither lists nor reads nor names another volume, nor makes or renames one, nor changes a key', async (t) => {
  const scene = await ready(t);
  const { other } = scene.ids;
  let said = '';
  const run = async (...args: string[]): Promise<number | null> => {
    const { status, stdout, stderr } = await scene.held(...args);
    said += stdout + stderr;
    return status;
  };
  for (const list of ['volumes', 'sessions', 'stats', 'check']) t.is(await run(list), 0, list);
  for (const name of ['vault/secret', other]) {
    t.is(await run('restore', name, scene.at('stolen.img')), 12);
    t.is(await run('sync', `${name}=${scene.at('work.img')}`), 12);
  }
  t.is(await run('sync', `new=${scene.at('work.img')}`, '--dry-run'), 12);
  t.is(await run('rename', 'work', 'vault/secret'), 12);
  t.is(await run('key', 'export', 'vault/secret', scene.at('stolen.key')), 12);
  for (const change of [
    ['key', 'add', '--new-key-file', scene.at('new.key')],
    ['key', 'change-passphrase'],
    ['key', 'paper', scene.at('page')],
    ['key', 'remove', '0'],
  ])
    t.is(await run(...change), 2, change.join(' '));
  said = said.replaceAll(/volume "vault\/secret"/g, ''); // what was asked for is repeated
  for (const secret of SECRETS) t.false(said.includes(secret.replaceAll(' ', '-')) || said.includes(secret), secret);
  t.deepEqual(readdirSync(path.join(scene.repo, 'keys')).length, 1);
  t.deepEqual(
    readdirSync(scene.root).filter((name) => /stolen|new[.]key|page/.test(name)),
    [],
  );
});

test.serial('the key itself opens nothing of another volume, even where the file says so', async (t) => {
  const scene = await ready(t);
  const { own, other } = scene.ids;
  using repository = await Repository.open(scene.repo, { passphrase: PASSPHRASE });
  const volumeKey = repository.exportVolumeKey(await repository.volume('work'));
  const volumeId = (await repository.volume('vault/secret')).context.volumeId;
  using forged = await Repository.open(scene.repo, { volumeKey: { ...volumeKey, volumeId } });
  const { volumes, damaged } = await forged.listVolumes();
  t.deepEqual([volumes.length, damaged[0]?.id, damaged[0]?.error.code], [0, other, 'RECORD_CORRUPT']);
  const moved = path.join(scene.repo, 'volumes', own, 'volume');
  copyFileSync(path.join(scene.repo, 'volumes', other, 'volume'), moved);
  t.is((await scene.held('volumes')).status, 3, "another volume's record in its place does not open, either");
});

test.serial('a key of another repository, of a changed one, a damaged one, and that of a volume that is gone are refused', async (t) => {
  const scene = await ready(t);
  const stranger = workspace(t);
  await makeFastRepository(stranger.repo);
  t.is((await scene.held('volumes', '--repo', stranger.repo)).status, 12);
  const key = readFileSync(scene.at('work.key'), 'utf8');
  writeFileSync(scene.at('work.key'), key.replace('"key": "', '"key": "0'));
  t.is((await scene.held('volumes')).status, 12);
  writeFileSync(scene.at('work.key'), key);
  rmSync(path.join(scene.repo, 'volumes', scene.ids.own), { recursive: true });
  t.is((await scene.held('key', 'test')).status, 1);
  t.is((await scene.held('restore', 'work', scene.at('out.img'))).status, 12);
});

test.serial('recover.py restores the volume with its exported key, and sees no other', async (t) => {
  const scene = await ready(t);
  const options = { env: { TIMEBAND_PASSPHRASE: undefined }, script: path.join(scene.repo, 'recover.py') };
  const key = ['--volume-key-file', scene.at('work.key')];
  t.is((await recover(scene, ['restore', 'work', scene.at('out.img'), ...key], options)).status, 0);
  t.is(firstWrongByte(scene.at('out.img'), scene.at('work.img')), undefined);
  const { stdout, stderr } = await recover(scene, ['list', ...key], options);
  t.true(stdout.includes('work'));
  for (const secret of [...SECRETS, scene.ids.other]) t.false((stdout + stderr).includes(secret), secret);
  t.is((await recover(scene, ['verify', ...key], options)).status, 0);
  t.is((await recover(scene, ['restore', 'vault/secret', scene.at('stolen.img'), ...key], options)).status, 1);
  t.is((await recover(scene, ['list'], { ...options, env: { ...options.env, TIMEBAND_VOLUME_KEY_FILE: scene.at('work.key') } })).status, 0);
});
