/** Restoring: what a target may be, what becomes of one that is refused or fails, and how sparse a new file is. */
import { lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import type { Progress } from '../../src/progress.ts';
import { type RestoreOptions, restoreSession, streamSession } from '../../src/restore.ts';
import { fill, sameBytes } from '../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { firstWrongByte, readPart, writeParts } from '../support/parts.ts';
import { sh } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const SIZE = 20 * BAND_256K + 1536;

interface Restoring extends Lab {
  readonly image: string;
  restore(target: string, options?: Partial<RestoreOptions>): ReturnType<typeof restoreSession>;
}

/** A session of a volume with data here and there. */
async function ready(t: ExecutionContext): Promise<Restoring> {
  const at = await lab(t, pool);
  const image = at.at('disk.img');
  writeParts(image, SIZE, [
    { at: 5000, bytes: fill('a', 300) },
    { at: 7 * BAND_256K - 4000, bytes: fill('b', 9000) },
    { at: 19 * BAND_256K, bytes: fill('c', BAND_256K + 1536) },
  ]);
  await at.sync('disk', image);
  return {
    ...at,
    image,
    restore: async (target, options = {}) => await restoreSession({ session: await at.session('disk'), target, pool, ...options }),
  };
}

test('a new file is equal, private, and holds blocks only where the session has data', async (t) => {
  const at = await ready(t);
  const result = await at.restore(at.at('new.img'));
  t.is(firstWrongByte(at.at('new.img'), at.image), undefined);
  const stat = lstatSync(at.at('new.img'));
  t.is(stat.mode & 0o777, 0o600);
  t.true(stat.blocks * 512 <= 4096 + 16_384 + BAND_256K + 8192);
  t.like(result, { sizeBytes: SIZE, damaged: [], target: at.at('new.img') });
  t.is(result.writtenBytes, 4096 + 12_288 + BAND_256K + 1536);
});

test('an existing file is not touched without leave', async (t) => {
  const at = await ready(t);
  for (const content of ['', 'something']) {
    writeFileSync(at.at('there.img'), content);
    t.is(await codeOf(() => at.restore(at.at('there.img'))), 'TARGET_EXISTS');
    t.is(readFileSync(at.at('there.img'), 'utf8'), content);
  }
  t.is(await codeOf(() => at.restore(at.folder('folder'))), 'TARGET_EXISTS');
});

for (const [what, bytes] of [
  ['shorter', 100],
  ['longer', SIZE + 100_000],
  ['as long', SIZE],
  ['empty', 0],
] as const) {
  test(`over an existing file that is ${what} the session is written whole, zeros and all`, async (t) => {
    const at = await ready(t);
    writeFileSync(at.at('there.img'), new Uint8Array(bytes).fill(0xff));
    const inode = lstatSync(at.at('there.img')).ino;
    await at.restore(at.at('there.img'), { isOverwrite: true });
    t.is(firstWrongByte(at.at('there.img'), at.image), undefined);
    t.is(lstatSync(at.at('there.img')).ino, inode);
  });
}

test('a link to a file is followed: the file is written, the link stays', async (t) => {
  const at = await ready(t);
  writeFileSync(at.at('real.img'), 'old');
  symlinkSync('real.img', at.at('link.img'));
  await at.restore(at.at('link.img'), { isOverwrite: true });
  t.true(lstatSync(at.at('link.img')).isSymbolicLink());
  t.is(firstWrongByte(at.at('real.img'), at.image), undefined);
});

test('what is neither a file nor a block device is refused', async (t) => {
  const at = await ready(t);
  sh('mkfifo', at.at('pipe'));
  for (const target of [at.folder('folder'), at.at('pipe'), '/dev/null'])
    t.is(await codeOf(() => at.restore(target, { isOverwrite: true })), 'TARGET_INVALID');
  t.is(await codeOf(() => at.restore(at.at('missing', 'new.img'))), 'IO_ERROR');
});

/** A loop device over a file of that size, full of other bytes. */
function device(at: Lab, sizeBytes: number): string {
  writeFileSync(at.at('device.img'), new Uint8Array(sizeBytes).fill(0xee));
  return sh('losetup', '--find', '--show', at.at('device.img')).trim();
}

test('a block device that is larger keeps what lies behind the session', async (t) => {
  const at = await ready(t);
  const loop = device(at, SIZE + 8192);
  await at.restore(loop, { isOverwrite: true });
  t.is(firstWrongByte(loop, at.image), undefined);
  sameBytes(t, readPart(loop, SIZE, 8192), new Uint8Array(8192).fill(0xee));
  sh('losetup', '--detach', loop);
});

test('a block device that is too small, or mounted, is refused and not written', async (t) => {
  const at = await ready(t);
  const small = device(at, SIZE - 512);
  t.is(await codeOf(() => at.restore(small, { isOverwrite: true })), 'TARGET_INVALID');
  sameBytes(t, readPart(small, 0, 4096), new Uint8Array(4096).fill(0xee));
  sh('losetup', '--detach', small);
  const loop = device(at, 2 * SIZE);
  sh('mkfs.ext4', '-q', loop);
  sh('mount', loop, at.folder('mounted'));
  t.is(await codeOf(() => at.restore(loop, { isOverwrite: true })), 'TARGET_INVALID');
  sh('umount', at.at('mounted'));
  t.notThrows(() => sh('fsck.ext4', '-n', '-f', loop));
  sh('losetup', '--detach', loop);
});

test('a disk that fills up is NO_SPACE, and nothing of the new file is left', async (t) => {
  const at = await ready(t);
  sh('mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', at.folder('small'));
  t.is(await codeOf(() => at.restore(at.at('small', 'new.img'))), 'NO_SPACE');
  t.deepEqual(readdirSync(at.at('small')), []);
});

test('an aborted restore leaves no new file, and says that an existing one is incomplete', async (t) => {
  const at = await ready(t);
  at.folder('out');
  const signal = AbortSignal.abort();
  t.is(await codeOf(() => at.restore(at.at('out', 'new.img'), { signal })), 'INTERRUPTED');
  t.deepEqual(readdirSync(at.at('out')), []);
  writeFileSync(at.at('there.img'), 'old');
  const error = await t.throwsAsync(() => at.restore(at.at('there.img'), { signal, isOverwrite: true }), { code: 'INTERRUPTED' });
  t.regex(error?.message ?? '', /incomplete/);
});

test('progress goes up to all bands and bytes', async (t) => {
  const at = await ready(t);
  for (const isOverwrite of [false, true]) {
    const seen: Progress[] = [];
    await at.restore(at.at('new.img'), { isOverwrite, onProgress: (progress) => seen.push(progress) });
    for (const [i, one] of seen.entries()) t.true(one.doneBands >= (seen[i - 1]?.doneBands ?? 0) && one.doneBands <= one.totalBands);
    t.is(seen.at(-1)?.doneBands, 21);
    t.true((seen.at(-1)?.doneBytes ?? 0) <= (seen.at(-1)?.totalBytes ?? 0));
  }
});

test('a stream is the session from its first byte to its last, and can be aborted', async (t) => {
  const at = await ready(t);
  const session = await at.session('disk');
  const parts: Uint8Array[] = [];
  const write = (bytes: Uint8Array): Promise<void> => {
    parts.push(Uint8Array.from(bytes));
    return Promise.resolve();
  };
  const { writtenBytes } = await streamSession({ session, pool, write });
  t.is(writtenBytes, SIZE);
  sameBytes(t, Buffer.concat(parts), readFileSync(at.image));
  t.is(await codeOf(() => streamSession({ session, pool, write, signal: AbortSignal.abort() })), 'INTERRUPTED');
});

test('a writer that fails ends the stream with its error', async (t) => {
  const at = await ready(t);
  const session = await at.session('disk');
  const write = (): Promise<void> => Promise.reject(new Error('the reader is gone'));
  await t.throwsAsync(() => streamSession({ session, pool, write }), { message: 'the reader is gone' });
});
