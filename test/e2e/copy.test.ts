/** `timeband copy` as people run it: killed, interrupted, on a full disk, with the passphrases of two repositories. */
import { lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { fill } from '../support/bytes.ts';
import { isClean, secondRepository, sharingOf } from '../support/copies.ts';
import { mountFileSystem } from '../support/file-systems.ts';
import { type Lab, lab, makeFastRepository } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { incomingFiles, signalWhen } from '../support/processes.ts';
import { recover } from '../support/recover.ts';
import { sh, workspace } from '../support/workspace.ts';

const MIB = 1_048_576;
const BAND = 2 * MIB;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Three sessions of bands that do not compress, the last image beside. */
async function source(t: ExecutionContext, bands = 40): Promise<Lab> {
  const at = await lab(t, pool);
  const noise = fill('noise', BAND + bands);
  for (const [round, count] of [bands, 4, 4].entries()) {
    const parts = Array.from({ length: count }, (_, i) => ({ at: (round * 3 + i) * BAND, bytes: noise.subarray((i + round) % bands) }));
    writeParts(
      at.at('disk.img'),
      bands * BAND,
      parts.map(({ at: offset, bytes }) => ({ at: offset, bytes: bytes.subarray(0, BAND) })),
    );
    await at.sync('disk', at.at('disk.img'), { bandBytes: BAND, tags: [`t${round}`] });
  }
  return at;
}

function sessionsIn(root: string): number {
  const volumes = path.join(root, 'volumes');
  const folders = readdirSync(volumes).filter((name) => !name.startsWith('.'));
  return folders.flatMap((name) => readdirSync(path.join(volumes, name, 'sessions'))).length;
}

/** The whole band files of the session that is under way, by path below bands/, with their inodes. */
function written(root: string): Map<string, bigint> {
  const [volume = ''] = readdirSync(path.join(root, 'volumes'));
  const files = incomingFiles(root).filter((name) => /\/bands\/[0-9a-f]{32}$/.test(name));
  return new Map(
    files.flatMap((name): [string, bigint][] => {
      const stat = lstatSync(path.join(root, 'volumes', name), { bigint: true });
      return stat.size > 2_000_000n && stat.nlink === 1n ? [[name.slice(volume.length + '/incoming/'.length), stat.ino]] : [];
    }),
  );
}

for (const hasSameKeys of [true, false]) {
  test.serial(
    `a copy that is killed again and again (${hasSameKeys ? 'the same' : 'other'} keys) goes on, and nothing is written twice`,
    async (t) => {
      const at = await source(t);
      const second = await secondRepository(t, at, { hasSameKeys, cipher: 'chacha20-poly1305' });
      const { root } = second.layout;
      const isAt = [
        () => incomingFiles(root).length > 0,
        ...[5, 20].map((count) => () => written(root).size >= count),
        () => incomingFiles(root).some((name) => name.includes('/index/')),
        () => sessionsIn(root) === 2,
      ];
      let kills = 0;
      let kept = 0;
      for (const isTime of isAt) {
        const before = written(root);
        const { signal } = await signalWhen(at.start('copy', 'disk', '--to', root), 'SIGKILL', isTime);
        if (signal === 'SIGKILL') kills++;
        const sessions = (await second.findVolume('disk'))?.layout.sessions ?? '';
        for (const [name, inode] of before) {
          const places = [path.join(path.dirname(sessions), 'incoming', name), path.join(sessions, name)];
          const found = places.map((file) => lstatSync(file, { bigint: true, throwIfNoEntry: false })?.ino).filter((ino) => ino !== undefined);
          if (found.includes(inode)) kept++;
          else t.true(before.size - kept <= 5, `${name} was written again, and was not one of those under way`);
        }
        await isClean(t, second, pool);
        if (signal !== 'SIGKILL') break;
      }
      t.true(kills >= 3 && kept > 20, `${kills} kills, ${kept} band files kept`);
      await at.ok('copy', 'disk', '--to', root);
      t.deepEqual(incomingFiles(root), []);
      const [from, to] = [await at.repository.volume('disk'), await second.volume('disk')];
      t.deepEqual(await to.sessionIds(), await from.sessionIds());
      t.deepEqual(await sharingOf(to), await sharingOf(from));
      await isClean(t, second, pool);
      await at.ok('restore', 'disk', at.at('out.img'), '--repo', root);
      t.is(firstWrongByte(at.at('out.img'), at.at('disk.img')), undefined);
      t.is((await recover(at, ['verify', root])).status, 0);
    },
  );
}

test.serial('Ctrl-C: status 130, what was written stays, and the same command goes on with it', async (t) => {
  const at = await source(t);
  const second = await secondRepository(t, at, { hasSameKeys: false });
  const { root } = second.layout;
  const { status, stderr } = await signalWhen(at.start('copy', '--all', '--to', root), 'SIGINT', () => written(root).size >= 8);
  t.is(status, 130, stderr);
  t.regex(stderr, /Run the same command again/);
  t.deepEqual(readdirSync(second.layout.locks), []);
  const left = written(root).size;
  t.true(left >= 8);
  const document = await at.json('copy', '--all', '--to', root);
  t.true(document.sessions[0].resumedBands >= 8 && document.sessions[0].resumedBands <= left + 1, `${document.sessions[0].resumedBands} of ${left}`);
  t.is(document.sessions[0].writtenBands, 40);
  await isClean(t, second, pool);
  await at.ok('sync', 'disk', '--force', '--repo', root); // a copy is a repository that can be synced to
});

test.serial('what an earlier run left is proven, not trusted: files that are cut, zeroed or of another band are written again', async (t) => {
  for (const hasSameKeys of [true, false]) {
    const at = await source(t, 12);
    const second = await secondRepository(t, at, { hasSameKeys });
    const { root } = second.layout;
    const { signal } = await signalWhen(at.start('copy', 'disk', '--to', root), 'SIGKILL', () => written(root).size >= 5);
    t.is(signal, 'SIGKILL');
    const volume = await second.volume('disk');
    const [cut = '', zeroed = '', other = '', link = ''] = [...written(root).keys()].map((name) => path.join(volume.layout.incoming, name));
    writeFileSync(cut, readFileSync(cut).subarray(0, 1_000_000));
    writeFileSync(zeroed, new Uint8Array(lstatSync(zeroed).size));
    sh('cp', zeroed, other);
    rmSync(link);
    sh('ln', '-s', '/etc/passwd', link);
    await at.ok('copy', 'disk', '--to', root);
    await isClean(t, second, pool);
    t.is((await recover(at, ['verify', root])).status, 0);
  }
});

test.serial('a full disk: a clear message, what was copied before is whole, and with more room the copy goes on', async (t) => {
  const at = await source(t);
  const mnt = mountFileSystem(at, { name: 'ext4', make: ['mkfs.ext4', '-q', '-F'], sizeMib: 100 });
  const repo = path.join(mnt, 'repo');
  await makeFastRepository(repo);
  sh('fallocate', '-l', '12M', path.join(mnt, 'other'));
  const first = await at.cli('copy', 'disk@t0', '--to', repo);
  t.is(first.status, 1, first.stderr);
  t.regex(first.stderr, /the disk is full; make room and try again/);
  t.deepEqual(incomingFiles(repo), []);
  t.is((await at.cli('check', '--no-key', '--repo', repo)).status, 0);
  rmSync(path.join(mnt, 'other'));
  await at.ok('copy', 'disk@t0', '--to', repo);
  sh('fallocate', '-l', '4M', path.join(mnt, 'other'));
  t.is((await at.cli('copy', 'disk', '--to', repo)).status, 1);
  t.is((await at.cli('check', '--data', '--repo', repo)).status, 0);
  await at.ok('delete', 'disk@t0', '--even-newest', '--yes', '--repo', repo);
  const { status, stderr } = await at.cli('copy', 'disk@t2', '--to', repo, '--accept-rollback');
  t.is(status, 0, stderr);
  await at.ok('restore', 'disk', at.at('out.img'), '--repo', repo);
  t.is(firstWrongByte(at.at('out.img'), at.at('disk.img')), undefined);
});

test.serial('passphrases: an option, a variable, the one of the first repository; a wrong one and none are status 12', async (t) => {
  const at = await source(t, 2);
  const second = await secondRepository(t, at, { hasSameKeys: false, passphrase: 'another' });
  const { root } = second.layout;
  writeFileSync(at.at('file'), 'another\n');
  t.is((await at.cli('copy', 'disk@t0', '--to', root, '--to-passphrase-file', at.at('file'))).status, 0);
  t.is((await at.cli('copy', 'disk@t1', '--to', root, '--to-passphrase-command', 'echo another')).status, 0);
  t.is((await at.cliIn({ TIMEBAND_TO_PASSPHRASE: 'another' }, 'copy', 'disk@t2', '--to', root)).status, 0);
  t.is((await at.cliIn({ TIMEBAND_TO_PASSPHRASE_FILE: at.at('file') }, 'copy', 'disk', '--to', root)).status, 0);
  t.is((await at.cliIn({ TIMEBAND_TO_PASSPHRASE: 'wrong' }, 'copy', 'disk', '--to', root)).status, 12);
  const none = await at.shell(`setsid -w "${process.execPath}" "${at.program}" copy disk --to "${root}"`);
  t.is(none.status, 12);
  t.regex(none.stderr, /TIMEBAND_TO_PASSPHRASE/);
});

test.serial('init --same-keys-as: the passphrase opens both, the id is its own, and copies are as they are', async (t) => {
  const at = await source(t, 2);
  const made = await at.json('init', '--repo', at.at('new'), '--same-keys-as', at.repo);
  t.not(made.id, at.repository.id);
  const dry = await at.json('copy', 'disk', '--to', at.at('new'), '--dry-run');
  t.like(dry, { status: 'dry-run', sameKeys: true });
  t.deepEqual(readdirSync(at.at('new', 'volumes')), []);
  const document = await at.json('copy', 'disk', '--to', at.at('new'));
  t.like(document, { status: 'copied', sameKeys: true, warnings: [] });
  for (const [i, one] of document.sessions.entries()) {
    const { writtenBands, writtenBytes, linkedBands } = dry.sessions[i];
    t.like(one, { volume: 'disk', status: 'copied', writtenBands, writtenBytes, linkedBands, resumedBands: 0, message: null });
  }
  t.regex(await at.ok('copy', 'disk', '--to', at.at('new')), /3 of 3 sessions are there already/);
  t.is((await at.cli('init', '--repo', at.at('x'), '--same-keys-as', at.repo, '--cipher', 'aes-256-gcm')).status, 2);
  t.is((await at.cliIn({ TIMEBAND_PASSPHRASE: 'wrong' }, 'init', '--repo', at.at('x'), '--same-keys-as', at.repo)).status, 12);
  t.is((await at.cli('init', '--repo', at.at('x'), '--same-keys-as', at.at('nothing'))).status, 10);
  t.false(readdirSync(at.root).includes('x'));
});

test.serial('what to copy must be said, and be there', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  await makeFastRepository(ws.at('second'));
  const status = async (...args: string[]): Promise<number | null> => (await ws.cli('copy', ...args)).status;
  t.deepEqual([await status('--to', ws.at('second')), await status('x', '--all', '--to', ws.at('second')), await status('x')], [2, 2, 2]);
  t.is(await status('x', '--to', ws.at('second')), 1);
  t.is(await status('x', '--to', ws.at('nowhere')), 10);
  t.is(await status('--all', '--to', ws.at('second')), 0);
});
