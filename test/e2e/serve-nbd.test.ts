/** `timeband serve-nbd` as others use it: nbdinfo, nbdcopy, qemu-img and qemu-io, byte for byte; and its life and death. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { SessionImage } from '../../bands/store/session-image.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { openOverlay } from '../../src/overlay.ts';
import { kill, mixedBytes, processesOf, readProc, until } from '../src/mount/mount-support.ts';
import { fill, sameBytes } from '../support/bytes.ts';
import { FaultyFs } from '../support/faulty-fs/faulty-fs.ts';
import { isSameFile } from '../support/images.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { ended } from '../support/processes.ts';
import { listTree } from '../support/tree.ts';
import { sh } from '../support/workspace.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

interface Scene extends Lab {
  readonly bytes: Uint8Array;
  readonly socket: string;
  /** The address of an export. */
  uri(name?: string): string;
  /** A digest of everything in the repository but its locks. */
  digest(): string;
}

async function scene(t: ExecutionContext): Promise<Scene> {
  const space = await lab(t, pool);
  t.teardown(() => {
    for (const pid of processesOf(space)) kill(pid, 'SIGKILL');
  });
  const bytes = mixedBytes('nbd', 40);
  writeFileSync(space.at('img'), bytes);
  await space.sync('a/v', space.at('img'));
  const socket = space.at('s');
  const digest = (): string =>
    createHash('sha256')
      .update(
        readdirSync(space.repo)
          .filter((name) => name !== 'locks')
          .map((name) => `${name}\n${statSync(space.at('repo', name)).isDirectory() ? listTree(space.at('repo', name)) : ''}`)
          .join('\n'),
      )
      .digest('hex');
  return { ...space, bytes, socket, uri: (name = '') => `nbd+unix:///${name}?socket=${socket}`, digest };
}

/** What a program that fails has printed. */
function outputOf(work: () => string): string {
  try {
    return work();
  } catch (error) {
    return typeof error === 'object' && error !== null && 'stdout' in error ? String(error.stdout) : String(error);
  }
}

test.serial('a session is served in the background, to any client, byte for byte, without FUSE; stop-nbd ends it', async (t) => {
  const s = await scene(t);
  const served = await s.json('serve-nbd', 'a/v', '--socket', s.socket);
  const session = (await s.json('sessions', 'a/v')).sessions[0].session;
  t.deepEqual(served, { socket: s.socket, exports: [{ name: 'a/v', volume: 'a/v', session, isWritable: false, uri: s.uri('a/v') }] });
  const info = JSON.parse(sh('nbdinfo', '--json', s.uri()));
  const [facts] = info.exports;
  t.is(info.structured, true);
  t.deepEqual(
    [facts['export-name'], facts['export-size'], facts.is_read_only, facts.can_multi_conn, facts.can_df, facts.can_cache, facts.contexts],
    ['a/v', s.bytes.length, true, true, true, true, ['base:allocation']],
  );
  t.is(JSON.parse(sh('nbdinfo', '--json', '--list', s.uri())).exports.length, 1);
  const holes: { offset: number; length: number; type: number }[] = JSON.parse(sh('nbdinfo', '--json', '--map', s.uri())).filter(
    (extent: { type: number }) => extent.type === 3,
  );
  t.is(holes.length, 8, 'every fifth band is zeros');
  t.true(holes.every(({ offset, length }) => length === BAND_256K && offset % BAND_256K === 0));
  for (const options of [[], ['-C', '1', '-R', '1'], ['--no-extents', '--request-size=4096'], ['--synchronous'], ['--request-size=33554432']]) {
    sh('nbdcopy', ...options, s.uri(), s.at('copy'));
    t.true(isSameFile(s.at('copy'), s.at('img')), options.join(' '));
    rmSync(s.at('copy'));
  }
  sh('qemu-img', 'convert', '-O', 'qcow2', '-f', 'raw', s.uri('a/v'), s.at('copy.qcow2'));
  t.regex(sh('qemu-img', 'compare', '-F', 'raw', s.at('copy.qcow2'), s.at('img')), /identical/);
  t.regex(sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', s.at('img'), s.uri('a/v')), /identical/);
  t.regex(sh('qemu-img', 'map', '--output=json', '-f', 'raw', s.uri('a/v')), /"zero": true/);
  const [pid = 0] = processesOf(s);
  t.false(/libfuse|fuse-native|fuse\.node/.test(readProc(pid, 'maps')), 'FUSE is not even loaded');
  const refused = await s.cli('delete', `a/v@${session}`, '--even-newest', '--yes');
  t.is(refused.status, 11);
  t.regex(refused.stderr, /serve-nbd/);
  await s.ok('stop-nbd', s.socket);
  t.deepEqual([existsSync(s.socket), processesOf(s), readdirSync(s.at('state', 'nbd'))], [false, [], []]);
  t.is((await s.cli('stop-nbd', s.socket)).status, 1);
});

test.serial('several sessions are several exports; a sync from one of them is the same volume again', async (t) => {
  const s = await scene(t);
  const newer = Uint8Array.from(s.bytes);
  newer.set(fill('newer', 1000), 3 * BAND_256K);
  writeFileSync(s.at('img'), newer);
  await s.sync('a/v', s.at('img'));
  await s.ok('serve-nbd', 'a/v', 'a/v@latest~1', '--socket', s.socket);
  t.deepEqual(
    JSON.parse(sh('nbdinfo', '--json', '--list', s.uri())).exports.map((one: { 'export-name': string }) => one['export-name']),
    ['a/v', 'a/v@latest~1'],
  );
  sh('nbdcopy', s.uri('a/v@latest~1'), s.at('old'));
  sameBytes(t, readFileSync(s.at('old')), s.bytes);
  await s.ok('sync', `again=${s.uri('a/v')}`, '--band-size', '256K');
  await s.ok('restore', 'again', s.at('again'));
  sameBytes(t, readFileSync(s.at('again')), newer);
  t.is((await s.cli('serve-nbd', 'a/v', '--socket', s.socket)).status, 11, 'it serves already');
  await s.ok('stop-nbd', s.socket);
});

test.serial('a damaged band is an error for its range and for nothing else', async (t) => {
  const s = await scene(t);
  const session = await s.session('a/v');
  const file = session.bandPaths(5, 1)[0] ?? '';
  const sealed = readFileSync(file);
  sealed[sealed.length >>> 1] = (sealed[sealed.length >>> 1] ?? 0) ^ 1;
  rmSync(file);
  writeFileSync(file, sealed);
  await s.ok('serve-nbd', 'a/v', '--socket', s.socket);
  t.throws(() => sh('nbdcopy', s.uri(), 'null:'), { message: /Input\/output error/ });
  const read = (offset: number, length: number): string => sh('qemu-io', '-r', '-f', 'raw', '-c', `read ${offset} ${length}`, s.uri());
  t.regex(read(0, 5 * BAND_256K), /read 1310720\/1310720/);
  t.regex(read(6 * BAND_256K, 30 * BAND_256K), /read 7864320\/7864320/);
  t.regex(
    outputOf(() => read(5 * BAND_256K, BAND_256K)),
    /read failed: Input\/output error/,
  );
  await s.ok('stop-nbd', s.socket);
});

test.serial('writable: what qemu and nbdcopy write is read back, thrown away at the end, and not one byte of the repository changes', async (t) => {
  const s = await scene(t);
  const before = s.digest();
  await s.ok('serve-nbd', 'a/v', '--socket', s.socket, '--writable');
  const io = (...commands: string[]): string => sh('qemu-io', '-f', 'raw', ...commands.flatMap((command) => ['-c', command]), s.uri());
  io('write -P 1 5000 300000', 'write -P 2 700k 64k', 'write -z 2M 1M', 'discard 4M 1M', 'flush', 'write -f -P 3 6M 512');
  const expected = Uint8Array.from(s.bytes);
  const MIB = 1_048_576;
  expected
    .fill(1, 5000, 305_000)
    .fill(2, 700 * 1024, 764 * 1024)
    .fill(0, 2 * MIB, 3 * MIB)
    .fill(0, 4 * MIB, 5 * MIB)
    .fill(3, 6 * MIB, 6 * MIB + 512);
  sh('nbdcopy', s.uri(), s.at('copy'));
  sameBytes(t, readFileSync(s.at('copy')), expected);
  writeFileSync(s.at('other'), fill('other', s.bytes.length));
  sh('nbdcopy', s.at('other'), s.uri());
  t.regex(sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', s.at('other'), s.uri()), /identical/);
  t.deepEqual(readdirSync(s.at('state', 'overlays')), [], 'it has no name');
  await s.ok('stop-nbd', s.socket);
  t.is(s.digest(), before);
  await s.ok('serve-nbd', 'a/v', '--socket', s.socket);
  t.regex(sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', s.at('img'), s.uri()), /identical/);
  t.throws(() => io('write 0 512'));
  await s.ok('stop-nbd', s.socket);
});

test.serial('kept: what was flushed is there the next time, also after kill -9, and for that session only', async (t) => {
  const s = await scene(t);
  const overlay = s.at('overlay');
  const serve = (name: string, ...more: string[]) => s.cli('serve-nbd', name, '--socket', s.socket, '--overlay', overlay, ...more);
  t.is((await serve('a/v')).status, 0);
  t.is(statSync(overlay).mode & 0o777, 0o600);
  sh('qemu-io', '-f', 'raw', '-c', 'write -P 7 100k 100k', '-c', 'flush', s.uri());
  const second = await s.cli('serve-nbd', 'a/v', '--socket', s.at('s2'), '--overlay', overlay);
  t.is(second.status, 11, second.stderr);
  for (const pid of processesOf(s)) kill(pid, 'SIGKILL');
  await until('it is dead', () => processesOf(s).length === 0);
  t.true(existsSync(s.socket), 'a stale socket');
  t.is((await serve('a/v')).status, 0);
  const read = (): string => sh('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 7 100k 100k', s.uri());
  t.regex(read(), /read 102400\/102400/);
  sh('qemu-io', '-f', 'raw', '-c', 'write -P 7 90k 120k', s.uri()); // not flushed: the end does that
  await s.ok('stop-nbd', s.socket);
  const [oldest] = (await s.json('sessions', 'a/v')).sessions;
  writeFileSync(s.at('img'), fill('newer', s.bytes.length));
  await s.sync('a/v', s.at('img'));
  const digest = createHash('sha256').update(readFileSync(overlay)).digest('hex');
  const refused = await serve('a/v');
  t.is(refused.status, 1);
  t.regex(refused.stderr, new RegExp(`over session ${oldest.session}`));
  t.is((await serve('a/v@latest~1', 'a/v')).status, 2, 'one overlay, one session');
  const newest = new SessionImage(await s.session('a/v'));
  for (const file of [s.at('img'), path.join(s.repo, 'repository.json'), path.join(s.repo, 'new'), s.repo, '/dev/null'])
    t.is(await codeOf(() => openOverlay(newest, { file })), 'TARGET_INVALID', file);
  t.is(await codeOf(() => openOverlay(newest, { file: s.at('missing', 'file') })), 'IO_ERROR');
  t.is(createHash('sha256').update(readFileSync(overlay)).digest('hex'), digest, 'nothing was written to it');
  t.is((await serve('a/v@latest~1')).status, 0);
  t.regex(sh('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 7 90k 120k', s.uri()), /read 122880\/122880/);
  await s.ok('stop-nbd', s.socket);
});

test.serial('a stop whose last writes the disk of the overlay did not store says so', async (t) => {
  const s = await scene(t);
  const disk = await FaultyFs.up(s.at('faulty'));
  t.teardown(() => disk.stop());
  const serve = (): Promise<unknown> => s.ok('serve-nbd', 'a/v', '--socket', s.socket, '--overlay', s.at('faulty', 'overlay'));
  await serve();
  sh('qemu-io', '-t', 'unsafe', '-f', 'raw', '-c', 'write -P 7 100k 100k', s.uri());
  await disk.arm({ name: 'EIO from then on', at: 1, under: ['/'], seed: 0 });
  const { error } = await s.json('stop-nbd', s.socket);
  await disk.disarm();
  t.is(error.code, 'IO_ERROR');
  t.regex(error.message, /has ended, but .*overlay/);
  await serve();
  await s.ok('stop-nbd', s.socket);
});

test.serial('in the foreground it serves until SIGTERM, which takes the socket away; a second one at the same socket is refused', async (t) => {
  const s = await scene(t);
  const child = s.start('serve-nbd', 'a/v', '--socket', s.socket, '--foreground');
  const end = ended(child);
  await until('it listens', () => existsSync(s.socket));
  t.is((await s.cli('serve-nbd', 'a/v', '--socket', s.socket)).status, 11);
  sh('nbdcopy', s.uri(), 'null:');
  child.kill('SIGTERM');
  const { status, stdout } = await end;
  t.is(status, 0);
  t.regex(stdout, /Serving a\/v@/);
  t.false(existsSync(s.socket));
  t.deepEqual(readdirSync(s.at('repo', 'locks')), []);
});

test.serial('what cannot be served leaves nothing: an unknown session, a folder that is missing, a file in the place of the socket', async (t) => {
  const s = await scene(t);
  t.is((await s.cli('serve-nbd', 'nothing', '--socket', s.socket)).status, 1);
  t.is((await s.cli('serve-nbd', 'a/v', '--socket', s.at('missing', 's'))).status, 1);
  t.is((await s.cli('serve-nbd', 'a/v', '--socket', s.at('img'))).status, 1);
  t.is((await s.cli('serve-nbd', 'a/v', 'a/v', '--socket', s.socket)).status, 2);
  t.is((await s.cli('serve-nbd', 'a/v')).status, 2);
  t.deepEqual([processesOf(s), readdirSync(s.at('state', 'nbd')), readdirSync(s.at('repo', 'locks'))], [[], [], []]);
});
