/** Restoring in place: the target becomes the session, and only blocks that differ are written. */
import { copyFileSync, linkSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import type { Progress } from '../../src/progress.ts';
import { restoreSession } from '../../src/restore.ts';
import { type InPlaceOptions, type InPlaceResult, restoreInPlace } from '../../src/restore-in-place.ts';
import { openExistingTarget } from '../../src/restore-target.ts';
import { TrackedImage } from '../../src/tracked/tracked-image.ts';
import { fill, flipBit, sameBytes } from '../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { imageSteps, ModelImage } from '../support/model-image.ts';
import { firstWrongByte, readPart, writeParts } from '../support/parts.ts';
import { sh } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const SIZE = 10 * BAND_256K + 1536;
const BLOCK = 4096;

interface Scene extends Lab {
  /** The image as it was at the first session, and at the second. */
  readonly images: readonly [string, string];
  readonly sessions: readonly [SessionDirectory, SessionDirectory];
  update(target: string, session: SessionDirectory, options?: Partial<InPlaceOptions>): Promise<InPlaceResult>;
}

/** Two sessions that differ in four bands: in some blocks of band 2, in all of band 5 and 7 (zeros in one of them), and in the tail. */
async function ready(t: ExecutionContext): Promise<Scene> {
  const at = await lab(t, pool);
  const [first, second] = [at.at('first.img'), at.at('second.img')];
  writeParts(first, SIZE, [
    { at: 0, bytes: fill('a', 3 * BAND_256K) },
    { at: 5 * BAND_256K, bytes: fill('b', BAND_256K) },
    { at: 9 * BAND_256K, bytes: fill('c', BAND_256K + 1536) },
  ]);
  await at.sync('disk', first);
  copyFileSync(first, second);
  writeParts(second, SIZE, [
    { at: 2 * BAND_256K + 10_000, bytes: fill('d', 5000) }, // three blocks: 8192 to 20479, of which 10000 to 14999 differ
    { at: 5 * BAND_256K, bytes: new Uint8Array(BAND_256K) },
    { at: 7 * BAND_256K, bytes: fill('e', BAND_256K) },
    { at: 10 * BAND_256K + 1024, bytes: fill('f', 512) },
  ]);
  await at.sync('disk', second);
  return {
    ...at,
    images: [first, second],
    sessions: [await at.session('disk', 'latest~1'), await at.session('disk')],
    update: async (target, session, options = {}) => await restoreInPlace({ session, target, pool, ...options }),
  };
}

const WRITTEN_BETWEEN = 2 * BLOCK + 2 * BAND_256K + 1536;
const COMPARED_AT = 3 * BAND_256K + 1536;

test('a file at another session is brought to this one by writing the blocks that differ, and no others', async (t) => {
  const at = await ready(t);
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  const { ino } = statSync(target);
  const result = await at.update(target, at.sessions[1]);
  t.is(firstWrongByte(target, at.images[1]), undefined);
  t.is(statSync(target).ino, ino);
  t.like(result, { comparedBytes: SIZE, writtenBytes: WRITTEN_BETWEEN, damaged: [], target, behindBytes: 0 });
});

test('a file that is at the session already is read and not written: its time stays', async (t) => {
  const at = await ready(t);
  const target = at.at('target.img');
  copyFileSync(at.images[1], target);
  utimesSync(target, 1000, 1000);
  t.like(await at.update(target, at.sessions[1]), { comparedBytes: SIZE, writtenBytes: 0 });
  t.is(statSync(target).mtimeMs, 1_000_000);
});

test('with the session that the target is at, only bands that differ between the two are looked at', async (t) => {
  const at = await ready(t);
  const target = at.at('target.img');
  await restoreSession({ session: at.sessions[0], target, pool });
  const [first, second] = at.sessions;
  t.like(await at.update(target, second, { knownAt: first }), { comparedBytes: COMPARED_AT, writtenBytes: WRITTEN_BETWEEN });
  t.is(firstWrongByte(target, at.images[1]), undefined);
  t.like(await at.update(target, first, { knownAt: second }), { comparedBytes: COMPARED_AT, writtenBytes: WRITTEN_BETWEEN });
  t.is(firstWrongByte(target, at.images[0]), undefined);
  t.like(await at.update(target, first, { knownAt: first }), { comparedBytes: 0, writtenBytes: 0 });
});

test('a session of another volume says nothing of the target', async (t) => {
  const at = await ready(t);
  await at.sync('other', at.images[0]);
  const knownAt = await at.session('other');
  await t.throwsAsync(() => at.update(at.images[0], at.sessions[1], { knownAt }), { instanceOf: TypeError });
});

test('a wrong word about where the target is leaves what it does not look at as it was, and writes nothing wrong', async (t) => {
  const at = await ready(t);
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  writeParts(target, SIZE, [
    { at: BAND_256K, bytes: fill('stray', 512) },
    { at: 7 * BAND_256K, bytes: fill('stray', 512) },
  ]);
  await at.update(target, at.sessions[1], { knownAt: at.sessions[0] });
  const expected = Uint8Array.from(readFileSync(at.images[1]));
  expected.set(fill('stray', 512), BAND_256K); // the one in band 7 was found: that band is compared
  sameBytes(t, readFileSync(target), expected);
  await at.update(target, at.sessions[1]);
  t.is(firstWrongByte(target, at.images[1]), undefined, 'comparing all of it finds the rest');
});

test('a file whose size is not that of the session it is said to be at is refused', async (t) => {
  const at = await ready(t);
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  truncateSync(target, SIZE - 512);
  t.is(await codeOf(() => at.update(target, at.sessions[1], { knownAt: at.sessions[0] })), 'TARGET_INVALID');
  t.is(statSync(target).size, SIZE - 512);
});

for (const bytes of [0, 512, 100, 4 * BAND_256K, SIZE - 512, SIZE + 512, SIZE + 3 * BAND_256K]) {
  test(`a file of ${bytes} bytes gets the session's size, and its bytes`, async (t) => {
    const at = await ready(t);
    const target = at.at('target.img');
    writeFileSync(target, new Uint8Array(bytes).fill(0xee));
    await at.update(target, at.sessions[1]);
    t.is(firstWrongByte(target, at.images[1]), undefined);
  });
}

test('whatever images hold and whatever size they have, each becomes the other', async (t) => {
  const at = await lab(t, pool);
  let story = 0;
  const steps = fc.array(imageSteps(3000), { minLength: 1, maxLength: 6 });
  const property = fc.asyncProperty(fc.integer({ min: 1, max: 3000 }), steps, steps, steps, async (sectors, before, between, stray) => {
    const name = `v${story++}`;
    const image = new ModelImage(at.at(`${name}.img`), sectors, BAND_256K);
    for (const step of before) image.apply(step);
    await at.sync(name, image.file);
    const first = Uint8Array.from(image.bytes);
    for (const step of between) image.apply(step);
    await at.sync(name, undefined, { isForced: true });
    const second = Uint8Array.from(image.bytes);
    const [a, b] = [await at.session(name, 'latest~1'), await at.session(name)];
    const target = at.at(`${name}.target`);
    await restoreSession({ session: a, target, pool });
    await restoreInPlace({ session: b, target, pool, knownAt: a });
    sameBytes(t, readFileSync(target), second, 'known to be at the first');
    await restoreInPlace({ session: a, target, pool, knownAt: b });
    sameBytes(t, readFileSync(target), first, 'back again');
    const other = new ModelImage(target, first.length / 512, BAND_256K);
    other.bytes = first;
    for (const step of stray) other.apply(step);
    await restoreInPlace({ session: b, target, pool });
    sameBytes(t, readFileSync(target), second, 'from anything');
    t.is((await restoreInPlace({ session: b, target, pool })).writtenBytes, 0);
    for (const file of [target, image.file]) rmSync(file);
  });
  await fc.assert(property, { numRuns: 12 });
});

/** A loop device over a copy of `image`, followed by other bytes. */
function device(at: Lab, image: string, behind: number): string {
  const file = at.at('device.img');
  writeFileSync(file, Buffer.concat([readFileSync(image), new Uint8Array(behind).fill(0xee)]));
  return sh('losetup', '--find', '--show', file).trim();
}

function sectorsWritten(loop: string): number {
  return Number(
    readFileSync(`/sys/block/${path.basename(loop)}/stat`, 'utf8')
      .trim()
      .split(/\s+/)[6],
  );
}

test('of a device only the blocks that differ are written, as the kernel counts them; what lies behind stays', async (t) => {
  const at = await ready(t);
  const behind = 2 * BLOCK + 2560; // to a whole block
  const loop = device(at, at.images[0], behind);
  for (const [knownAt, written] of [
    [at.sessions[0], 2 * BLOCK + 2 * BAND_256K + BLOCK], // the last block is partly behind the session
    [undefined, 0],
  ] as const) {
    const before = sectorsWritten(loop);
    const result = await at.update(loop, at.sessions[1], { knownAt });
    t.is(result.behindBytes, behind);
    t.is(firstWrongByte(loop, at.images[1]), undefined);
    t.is((sectorsWritten(loop) - before) * 512, written);
    sameBytes(t, readPart(loop, SIZE, behind), new Uint8Array(behind).fill(0xee));
  }
  sh('losetup', '--detach', loop);
});

test('a volume that has grown: what the device held behind the smaller session is compared, too', async (t) => {
  const at = await lab(t, pool);
  writeParts(at.at('disk.img'), 3 * 512, [{ at: 0, bytes: fill('a', 512) }]);
  await at.sync('disk', at.at('disk.img'));
  const loop = device(at, at.at('disk.img'), 3 * BAND_256K);
  writeParts(at.at('disk.img'), 2 * BAND_256K);
  await at.sync('disk');
  await restoreInPlace({ session: await at.session('disk'), target: loop, pool, knownAt: await at.session('disk', 'latest~1') });
  t.is(firstWrongByte(loop, at.at('disk.img')), undefined);
  sh('losetup', '--detach', loop);
});

test('a device that is too small or mounted is refused, and so is what is no file, no device, or not there', async (t) => {
  const at = await ready(t);
  const small = device(at, at.images[0], 0);
  sh('losetup', '--detach', small);
  truncateSync(at.at('device.img'), SIZE - 512);
  const loop = sh('losetup', '--find', '--show', at.at('device.img')).trim();
  t.is(await codeOf(() => at.update(loop, at.sessions[1])), 'TARGET_INVALID');
  sh('mkfs.ext4', '-q', loop);
  sh('mount', loop, at.folder('mounted'));
  t.is(await codeOf(() => at.update(loop, at.sessions[0])), 'TARGET_INVALID');
  sh('umount', at.at('mounted'));
  sh('losetup', '--detach', loop);
  for (const target of [at.folder('folder'), '/dev/null', at.at('missing.img')])
    t.is(await codeOf(() => at.update(target, at.sessions[1])), 'TARGET_INVALID');
  const own = path.join(at.repo, 'repository.json');
  symlinkSync(own, at.at('link'));
  for (const target of [own, at.at('link')]) {
    t.is(await codeOf(() => at.update(target, at.sessions[1])), 'TARGET_INVALID');
    t.is(await codeOf(() => restoreSession({ session: at.sessions[1], target, pool, isOverwrite: true })), 'TARGET_INVALID');
  }
  await at.repository.volume('disk');
});

test('an image on which a loop device lies is refused by whatever name, in place as with overwriting', async (t) => {
  const at = await ready(t);
  const loop = device(at, at.images[0], 0);
  linkSync(at.at('device.img'), at.at('other-name.img'));
  for (const target of [at.at('device.img'), at.at('other-name.img')]) {
    t.is(await codeOf(() => at.update(target, at.sessions[1])), 'TARGET_INVALID');
    t.is(await codeOf(() => restoreSession({ session: at.sessions[1], target, pool, isOverwrite: true })), 'TARGET_INVALID');
    t.is(firstWrongByte(target, at.images[0]), undefined);
  }
  sh('losetup', '--detach', loop);
  await at.update(at.at('device.img'), at.sessions[1]);
  t.is(firstWrongByte(at.at('other-name.img'), at.images[1]), undefined);
});

test('an image that is attached is refused, in place as with overwriting, and is not attached while it is written', async (t) => {
  const at = await ready(t);
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  const attach = (): Promise<TrackedImage> => TrackedImage.open({ location: target, stateDirectory: at.at('state'), asideBytes: BAND_256K });
  const image = await attach();
  t.is(await codeOf(() => at.update(target, at.sessions[1])), 'TARGET_INVALID');
  t.is(await codeOf(() => restoreSession({ session: at.sessions[1], target, pool, isOverwrite: true })), 'TARGET_INVALID');
  t.is(firstWrongByte(target, at.images[0]), undefined);
  await image.close();
  const opened = await openExistingTarget({ session: at.sessions[1], target });
  t.is(await codeOf(attach), 'LOCKED');
  await opened.abandon();
  await at.update(target, at.sessions[1]);
  t.is(firstWrongByte(target, at.images[1]), undefined);
});

function damage(file: string): void {
  const bytes = readFileSync(file);
  rmSync(file); // a link, perhaps
  writeFileSync(file, flipBit(bytes, bytes.length * 4));
}

test('a damaged band fails, or is left as it was and listed; all else becomes the session', async (t) => {
  const at = await ready(t);
  const [, session] = at.sessions;
  damage(session.bandPaths(7, 1)[0] ?? '');
  const target = at.at('target.img');
  writeFileSync(target, new Uint8Array(SIZE).fill(0x77));
  const error = await t.throwsAsync(() => at.update(target, session), { code: 'BAND_CORRUPT' });
  t.regex(error?.message ?? '', new RegExp(`${7 * BAND_256K}-${8 * BAND_256K - 1}`));
  sameBytes(t, readPart(target, 7 * BAND_256K, BAND_256K), new Uint8Array(BAND_256K).fill(0x77));
  const { damaged } = await at.update(target, session, { isKeepGoing: true });
  t.deepEqual(
    damaged.map(({ offset, length }) => [offset, length]),
    [[7 * BAND_256K, BAND_256K]],
  );
  const expected = Uint8Array.from(readFileSync(at.images[1]));
  expected.fill(0x77, 7 * BAND_256K, 8 * BAND_256K);
  sameBytes(t, readFileSync(target), expected);
});

test('a damaged band that the target holds whole is no damage to it', async (t) => {
  const at = await ready(t);
  damage(at.sessions[1].bandPaths(7, 1)[0] ?? '');
  const target = at.at('target.img');
  copyFileSync(at.images[1], target);
  t.like(await at.update(target, at.sessions[1]), { damaged: [], writtenBytes: 0 });
});

test('a missing band file is noticed before anything is written; with keep-going it only matters where it is needed', async (t) => {
  const at = await ready(t);
  for (const i of [0, 7]) rmSync(at.sessions[1].bandPaths(i, 1)[0] ?? '');
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  t.is(await codeOf(() => at.update(target, at.sessions[1])), 'BAND_CORRUPT');
  t.is(firstWrongByte(target, at.images[0]), undefined);
  const { damaged } = await at.update(target, at.sessions[1], { isKeepGoing: true });
  t.deepEqual(
    damaged.map(({ offset }) => offset),
    [7 * BAND_256K],
  );
});

test('a damaged index page leaves all of its range as it was', async (t) => {
  const at = await ready(t);
  damage(at.sessions[1].pagePath(0));
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  const session = await at.session('disk'); // one that has not read the page yet
  for (const knownAt of [undefined, at.sessions[0]]) {
    t.is(await codeOf(() => at.update(target, session, { knownAt })), 'RECORD_CORRUPT');
    const { damaged } = await at.update(target, session, { knownAt, isKeepGoing: true });
    t.like(damaged, [{ offset: 0, length: SIZE }]);
    t.is(firstWrongByte(target, at.images[0]), undefined);
  }
});

test('a damaged index of the session that the target is at costs reading everything', async (t) => {
  const at = await ready(t);
  damage(at.sessions[0].pagePath(0));
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  t.is((await at.update(target, at.sessions[1], { knownAt: await at.session('disk', 'latest~1') })).comparedBytes, SIZE);
  t.is(firstWrongByte(target, at.images[1]), undefined);
});

test('one that was cut short is finished by running it again, also where the size changes', async (t) => {
  const at = await ready(t);
  for (const sizeBytes of [8 * BAND_256K - 512, 20 * BAND_256K]) {
    writeFileSync(at.images[1], fill(`other ${sizeBytes}`, sizeBytes));
    await at.sync('disk');
    const session = await at.session('disk');
    const target = at.at('target.img');
    copyFileSync(at.images[0], target);
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    t.is(await codeOf(() => at.update(target, session, { knownAt: at.sessions[0], signal: AbortSignal.abort() })), 'INTERRUPTED');
    t.is(await codeOf(() => at.update(target, session, { knownAt: at.sessions[0], signal: stop.signal, onProgress })), 'INTERRUPTED');
    await at.update(target, session, { knownAt: at.sessions[0] });
    t.is(firstWrongByte(target, at.images[1]), undefined);
  }
});

test('progress goes up to all that is compared', async (t) => {
  const at = await ready(t);
  const target = at.at('target.img');
  copyFileSync(at.images[0], target);
  const seen: Progress[] = [];
  await at.update(target, at.sessions[1], { knownAt: at.sessions[0], onProgress: (progress) => seen.push(progress) });
  for (const [i, one] of seen.entries()) t.true(one.doneBands >= (seen[i - 1]?.doneBands ?? 0));
  t.like(seen.at(-1), { doneBands: 4, totalBands: 4, doneBytes: COMPARED_AT, totalBytes: COMPARED_AT });
});
