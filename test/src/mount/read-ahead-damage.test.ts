/** Damage met while a reader goes forward and bands are decoded ahead of it: an error there, the right bytes everywhere else. */
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TimebandError } from '../../../bands/errors.ts';
import { CHUNK_BYTES } from '../../../bands/format/geometry.ts';
import { createCursor } from '../../../bands/store/image.ts';
import type { SessionDirectory } from '../../../bands/store/session-directory.ts';
import { SessionImage } from '../../../bands/store/session-image.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { fill, isSame } from '../../support/bytes.ts';
import { BAND_256K, type Lab } from '../../support/library.ts';
import { errnoFrom, mounted, mountLab, mountTest, nothingLeft } from './mount-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const BANDS = 16;
/** Band 5 loses its second chunk, band 6 is missing, band 10 is cut short. */
const LOST = [
  { from: 5 * BAND_256K + CHUNK_BYTES, to: 7 * BAND_256K },
  { from: 10 * BAND_256K, to: 11 * BAND_256K },
];

interface Scene extends Lab {
  readonly bytes: Uint8Array;
  readonly damaged: SessionDirectory;
}

function isLost(from: number, to: number): boolean {
  return LOST.some((lost) => lost.from < to && from < lost.to);
}

/** A session of noise, so that each chunk's bytes are stored, with three bands damaged. */
async function setScene(t: ExecutionContext): Promise<Scene> {
  const space = await mountLab(t, pool);
  const bytes = fill('damaged', BANDS * BAND_256K);
  writeFileSync(space.at('img'), bytes);
  await space.sync('v', space.at('img'));
  const damaged = await space.session('v');
  const [five = '', six = '', , , , ten = ''] = damaged.bandPaths(5, 6);
  const file = readFileSync(five);
  const at = file.length - 1000; // within the last chunk
  writeFileSync(five, Buffer.concat([file.subarray(0, at), Buffer.of((file[at] ?? 0) ^ 1), file.subarray(at + 1)]));
  unlinkSync(six);
  truncateSync(ten, 5000);
  return { ...space, bytes, damaged };
}

const SETTINGS = [
  { name: 'no pool', options: {} },
  { name: 'a pool', options: { pool } },
  { name: 'a pool and little room', options: { pool, cacheBytes: 4 * BAND_256K } },
] as const;

/** Reads all of an image in order; gives the first read that did not go as it should. */
async function firstFault(image: SessionImage, bytes: Uint8Array, size: number): Promise<string | undefined> {
  const cursor = createCursor();
  for (let at = 0; at < bytes.length; at += size) {
    const out = new Uint8Array(Math.min(size, bytes.length - at));
    const error: unknown = await image.read(out, at, cursor).catch((thrown: unknown) => thrown);
    const isExpected = isLost(at, at + out.length) ? error instanceof TimebandError && error.path !== undefined : error === undefined;
    if (!isExpected) return `at ${at}: ${String(error)}`;
    if (error === undefined && !isSame(out, bytes.subarray(at, at + out.length))) return `wrong bytes at ${at}`;
  }
  return undefined;
}

for (const { name, options } of SETTINGS) {
  test(`reads of any size, one after another, fail just where the damage is, the second time as the first: ${name}`, async (t) => {
    const { bytes, damaged } = await setScene(t);
    for (const size of [4096, 65_536, 100_000, 2 * BAND_256K]) {
      const image = new SessionImage(damaged, options);
      for (const pass of ['first', 'second']) t.is(await firstFault(image, bytes, size), undefined, `${pass} pass, by ${size}`);
    }
  });
}

test('many requests under way at once over damaged bands fail each for itself', async (t) => {
  const { bytes, damaged } = await setScene(t);
  const image = new SessionImage(damaged, { pool });
  const cursor = createCursor();
  const size = 32_768;
  const reads = Array.from({ length: bytes.length / size }, async (_, i) => {
    const out = new Uint8Array(size);
    await image.read(out, i * size, cursor);
    return isSame(out, bytes.subarray(i * size, (i + 1) * size));
  });
  for (const [i, result] of (await Promise.allSettled(reads)).entries()) {
    t.is(result.status === 'fulfilled' ? result.value : 'failed', isLost(i * size, (i + 1) * size) ? 'failed' : true, `at ${i * size}`);
  }
});

test('a band that is mended is read again', async (t) => {
  const { bytes, damaged } = await setScene(t);
  const image = new SessionImage(damaged);
  const out = new Uint8Array(4096);
  const [five = ''] = damaged.bandPaths(5, 1);
  await t.throwsAsync(image.read(out, 5 * BAND_256K + CHUNK_BYTES), { code: 'BAND_CORRUPT' });
  const file = readFileSync(five);
  const at = file.length - 1000;
  writeFileSync(five, Buffer.concat([file.subarray(0, at), Buffer.of((file[at] ?? 0) ^ 1), file.subarray(at + 1)]));
  await image.read(out, 5 * BAND_256K + CHUNK_BYTES);
  t.true(isSame(out, bytes.subarray(5 * BAND_256K + CHUNK_BYTES).subarray(0, 4096)));
});

/** Reads a file from begin to end in steps; gives the offsets of the steps that failed, and of those with wrong bytes. */
function readSteps(file: string, bytes: Uint8Array, size: number): { readonly failed: number[]; readonly wrong: number[] } {
  const fd = openSync(file, 'r');
  const [failed, wrong]: [number[], number[]] = [[], []];
  const out = new Uint8Array(size);
  for (let at = 0; at < bytes.length; at += size) {
    let got = 0;
    const error = errnoFrom(() => {
      got = readSync(fd, out, 0, size, at);
    });
    if (error !== undefined) failed.push(at);
    else if (!isSame(out.subarray(0, got), bytes.subarray(at, at + got)) || got !== size) wrong.push(at);
  }
  closeSync(fd);
  return { failed, wrong };
}

mountTest('cat of a damaged image fails, reads of pages fail just where the damage is, and the server goes on', async (t) => {
  const scene = await setScene(t);
  const folder = await mounted(scene);
  const image = path.join(folder, 'v', 'latest', 'image');
  t.is(
    errnoFrom(() => readFileSync(image)),
    'EIO',
  );
  for (const pass of ['cold', 'from the page cache']) {
    const { failed, wrong } = readSteps(image, scene.bytes, 4096);
    t.deepEqual(wrong, [], pass);
    const expected = Array.from({ length: scene.bytes.length / 4096 }, (_, i) => i * 4096).filter((at) => isLost(at, at + 4096));
    t.deepEqual(failed, expected, pass);
  }
  t.is(statSync(image).size, scene.bytes.length);
  t.is(readdirSync(path.dirname(image)).length, 1);
  await scene.ok('unmount', folder);
  await nothingLeft(t, scene);
});
