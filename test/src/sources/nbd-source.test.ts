/** Disks that others export: a VM's disk in use, frozen by its storage daemon; whose bitmap is believed, and when. */
import { readFileSync, rmSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { restoreSession } from '../../../src/restore.ts';
import { sameBytes } from '../../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../../support/library.ts';
import { diskOf, makeQcow2, qemuIo, serve, serveImage } from '../../support/qemu.ts';
import { LiveDisk } from '../../support/qmp.ts';
import { sh } from '../../support/workspace.ts';

const MIB = 1_048_576;
const DISK_BYTES = 64 * MIB;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** What an export holds, by QEMU's own reading. */
function exported(at: Lab, address: string): Uint8Array {
  sh('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', address, at.at('raw'));
  const bytes = readFileSync(at.at('raw'));
  rmSync(at.at('raw'));
  return bytes;
}

async function verify(t: ExecutionContext, at: Lab, session: string | undefined, disk: Uint8Array): Promise<void> {
  const target = at.at(`${session}.img`);
  await restoreSession({ session: await at.session('vm', session), target, pool });
  sameBytes(t, readFileSync(target), disk);
  rmSync(target);
}

test.serial('a disk in use is backed up as it was when it was frozen, and later only what its bitmap names is read', async (t) => {
  const at = await lab(t, pool);
  const live = await LiveDisk.start(t, at, at.at('disk.qcow2'), DISK_BYTES);
  live.write(`write -P 1 0 ${30 * MIB}`);
  const dry = await at.sync('vm', `nbd+unix:///guest?socket=${live.socket}`, { isDryRun: true });
  t.regex(dry.warnings.join(), /can be written to, so it is not frozen/);
  let newest: string | undefined;
  for (let round = 0; round < 4; round++) {
    live.write(`write -P ${round + 2} ${round * 5 * MIB + 3} 10`, `discard ${(20 + round) * MIB} 1M`, `write -z ${(10 + round) * MIB} 65k`);
    await live.withBackup(async () => {
      const address = `nbd+unix:///pull?socket=${live.socket}`;
      const disk = exported(at, address);
      let hasWritten = false;
      const onProgress = (): void => {
        if (!hasWritten) live.write(`write -P 99 0 ${8 * MIB}`, `write -P 98 ${40 * MIB} 2M`);
        hasWritten = true;
      };
      const location = newest === undefined ? address : `${address}&bitmap=backup&since=${newest}`;
      const result = await at.sync('vm', location, { onProgress });
      t.true(hasWritten, 'the guest went on');
      t.deepEqual([result.status, result.warnings, result.missedBands], ['created', [], 0]);
      t.is(result.source.kind, 'nbd');
      t.is(result.source.location, newest === undefined ? address : `${address}&bitmap=backup`, 'what holds once is not remembered');
      if (round > 0) t.true(result.readBytes < 40 * MIB && result.readBytes <= (60 + 16) * BAND_256K, `read ${result.readBytes}`);
      await verify(t, at, result.session, disk);
      newest = result.session;
    });
  }
});

test.serial('a bitmap is believed only with the session that it counts from, and only if that is the newest', async (t) => {
  const at = await lab(t, pool);
  const [image, socket] = [at.at('disk.qcow2'), at.at('s')];
  makeQcow2(image, DISK_BYTES);
  qemuIo(image, `write -P 1 0 ${30 * MIB}`);
  sh('qemu-img', 'bitmap', '--add', image, 'b');
  qemuIo(image, 'write -P 2 3M 10');
  await serveImage(t, socket, '--read-only', '-f', 'qcow2', '-x', 'disk', '-B', 'b', image);
  const address = `nbd+unix:///disk?socket=${socket}`;
  const first = await at.sync('vm', `${address}&bitmap=b`);
  t.deepEqual(first.warnings, []);
  const newest = first.session ?? '';
  await verify(t, at, newest, diskOf(image, at.at('raw')));
  const reason = async (tail: string): Promise<string> => (await at.sync('vm', address + tail)).warnings.join();
  t.regex(await reason('&bitmap=b'), new RegExp(`reading everything: .*add since=${newest} to the address`));
  t.regex(await reason('&bitmap=b&since=20200101T000000.000Z'), /counts from session 20200101T000000.000Z, but the newest session is/);
  t.regex(await reason(`&bitmap=c&since=${newest}`), /exports no bitmap "c", only b\./);
  t.is(await reason(''), '');
  const known = await at.sync('vm', `${address}&bitmap=b&since=${newest}`);
  t.deepEqual([known.status, known.warnings], ['unchanged', []]);
  t.true(known.readBytes <= 17 * BAND_256K);
  t.is(await codeOf(() => at.sync('vm', `${address}&since=${newest}`)), 'USAGE');
  t.is(await codeOf(() => at.sync('vm', `${address}x`)), 'SOURCE_NOT_FOUND');
  t.is((await at.sync('vm')).status, 'unchanged', 'the address was remembered');
});

test.serial('what a disk lost when it was made smaller, and larger again, is not missed, though QEMU calls it clean', async (t) => {
  const at = await lab(t, pool);
  const [image, socket] = [at.at('disk.qcow2'), at.at('s')];
  makeQcow2(image, DISK_BYTES);
  qemuIo(image, `write -P 1 0 ${50 * MIB}`);
  sh('qemu-img', 'bitmap', '--add', image, 'b');
  const session = (await at.sync('vm', `qcow2:${image}`)).session ?? '';
  sh('qemu-img', 'resize', '-q', '--shrink', image, String(20 * MIB + 512));
  sh('qemu-img', 'resize', '-q', image, String(DISK_BYTES));
  await serveImage(t, socket, '--read-only', '-f', 'qcow2', '-x', 'disk', '-B', 'b', image);
  const result = await at.sync('vm', `nbd+unix:///disk?socket=${socket}&bitmap=b&since=${session}`);
  t.deepEqual([result.warnings, result.missedBands], [[], 0]);
  t.true(result.changedBands >= 118, `${result.changedBands} bands became holes`);
  await verify(t, at, result.session, diskOf(image, at.at('raw')));
});

test.serial('an export over TCP is read, whatever its name', async (t) => {
  const at = await lab(t, pool);
  const raw = at.at('disk.raw');
  sh('truncate', '-s', String(DISK_BYTES), raw);
  sh('qemu-io', '-f', 'raw', '-c', 'write -P 7 1M 3M', raw);
  const port = 20_000 + (process.pid % 20_000);
  const ready = at.at('pid');
  await serve(
    t,
    ready,
    'qemu-nbd',
    '--persistent',
    '-p',
    String(port),
    '-b',
    '127.0.0.1',
    '-x',
    'a/b c',
    '--pid-file',
    ready,
    '-r',
    '-f',
    'raw',
    raw,
  );
  const result = await at.sync('vm', `nbd://127.0.0.1:${port}/a/b%20c`);
  t.deepEqual([result.source.location, result.changedBands, result.warnings], [`nbd://127.0.0.1:${port}/a/b%20c`, 12, []]);
  await verify(t, at, result.session, readFileSync(raw));
});

test.serial('a server that dies while it is read fails the sync and leaves no session', async (t) => {
  const at = await lab(t, pool);
  const [image, socket] = [at.at('disk.qcow2'), at.at('s')];
  makeQcow2(image, DISK_BYTES);
  qemuIo(image, `write -P 1 0 ${50 * MIB}`);
  const server = await serveImage(t, socket, '--read-only', '-f', 'qcow2', '-x', 'disk', image);
  const location = `nbd+unix:///disk?socket=${socket}`;
  t.is(await codeOf(() => at.sync('vm', location, { onProgress: () => server.kill('SIGKILL') })), 'SOURCE_UNREADABLE');
  t.is(await codeOf(() => at.sync('vm', location)), 'SOURCE_NOT_FOUND');
  t.deepEqual(await (await at.repository.findVolume('vm'))?.sessionIds(), [], 'what was read before that is kept for the next sync');
});
