import { readdirSync, readlinkSync, rmSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { errnoOf } from '../../../bands/errors.ts';
import { CHUNK_BYTES } from '../../../bands/format/geometry.ts';
import { nameOfSealing } from '../../../bands/format/index-page.ts';
import { createCursor } from '../../../bands/store/image.ts';
import { ReadCache } from '../../../bands/store/read-cache.ts';
import type { SessionDirectory } from '../../../bands/store/session-directory.ts';
import { SessionImage } from '../../../bands/store/session-image.ts';
import { BandPool, shareBandKeys } from '../../../bands/workers/band-pool.ts';
import { isSame, sameBytes } from '../../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../../support/library.ts';
import { writeMixed } from './mount-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const BANDS = 17;
const SETTINGS = [
  { name: 'no pool', options: {} },
  { name: 'no pool and room for one chunk', options: { cacheBytes: 1 } },
  { name: 'a pool', options: { pool } },
  { name: 'a pool and room for two bands ahead', options: { pool, cacheBytes: 4 * BAND_256K } },
  { name: 'a pool and room for three bands ahead', options: { pool, cacheBytes: 6 * BAND_256K } },
  { name: 'a pool and room for none', options: { pool, cacheBytes: 2 * BAND_256K } },
] as const;

interface Scene {
  readonly space: Lab;
  readonly bytes: Uint8Array;
  readonly session: SessionDirectory;
}

async function makeSession(t: ExecutionContext, bands = BANDS): Promise<Scene> {
  const space = await lab(t, pool);
  const bytes = writeMixed(space.at('img'), 'image', bands);
  await space.sync('v', space.at('img'));
  return { space, bytes, session: await space.session('v') };
}

/** Where a descriptor of this process leads. */
function linkOf(fd: string): string[] {
  try {
    return [readlinkSync(`/proc/self/fd/${fd}`)];
  } catch {
    return []; // the descriptor that listed the folder
  }
}

/** A reader's next read: where, seen from the end of its last one, and how long. */
interface Step {
  readonly reader: number;
  readonly move: 'on' | 'back' | 'overlap' | number;
  readonly length: number;
  /** Whether the next read is sent before this one is answered. */
  readonly isPipelined: boolean;
}

const step: fc.Arbitrary<Step> = fc.record({
  reader: fc.nat(3),
  move: fc.oneof(
    { weight: 6, arbitrary: fc.constant('on' as const) },
    { weight: 1, arbitrary: fc.constant('back' as const) },
    { weight: 1, arbitrary: fc.constant('overlap' as const) },
    { weight: 2, arbitrary: fc.nat(999) },
  ),
  length: fc.oneof(fc.constantFrom(1, 512, 4096, 131_072, BAND_256K), fc.nat(3 * BAND_256K)),
  isPipelined: fc.boolean(),
});

/** Runs the steps; whether each read gave the image's bytes. */
async function areRight(image: SessionImage, bytes: Uint8Array, steps: readonly Step[]): Promise<boolean> {
  const cursors = Array.from({ length: 4 }, createCursor);
  const ends = [0, 0, 0, 0];
  let pending: Promise<boolean>[] = [];
  for (const { reader, move, length, isPipelined } of steps) {
    const end = ends[reader] ?? 0;
    const wanted = move === 'on' ? end : move === 'back' ? end - 2 * length : move === 'overlap' ? end - length / 2 : (move / 1000) * bytes.length;
    const offset = Math.floor(Math.min(Math.max(0, wanted), bytes.length));
    const out = new Uint8Array(Math.min(length, bytes.length - offset)).fill(0xa5);
    ends[reader] = (offset + out.length) % bytes.length;
    pending.push(image.read(out, offset, cursors[reader]).then(() => isSame(out, bytes.subarray(offset, offset + out.length))));
    if (isPipelined) continue;
    if ((await Promise.all(pending)).includes(false)) return false;
    pending = [];
  }
  return !(await Promise.all(pending)).includes(false);
}

test('reads at any offset, of any length, by several readers at once equal the image, whatever pool and cache there are', async (t) => {
  const { bytes, session } = await makeSession(t);
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...SETTINGS), fc.array(step, { minLength: 1, maxLength: 40 }), async ({ options }, steps) => {
      const image = new SessionImage(session, options);
      const isRight = await areRight(image, bytes, steps);
      return isRight;
    }),
    { numRuns: 240 },
  );
  t.pass();
});

test('the whole image comes forward, backward and in one read, whatever pool and cache there are', async (t) => {
  const { bytes, session } = await makeSession(t);
  const out = new Uint8Array(bytes.length);
  for (const { name, options } of SETTINGS) {
    const image = new SessionImage(session, options);
    for (const size of [131_072, 100_000, BAND_256K + 1]) {
      const cursor = createCursor();
      out.fill(0xa5);
      for (let at = 0; at < bytes.length; at += size) await image.read(out.subarray(at, at + size), at, cursor);
      sameBytes(t, out, bytes, `forward by ${size}, ${name}`);
      out.fill(0xa5);
      for (let end = bytes.length; end > 0; end -= size)
        await image.read(out.subarray(Math.max(0, end - size), end), Math.max(0, end - size), cursor);
      sameBytes(t, out, bytes, `backward by ${size}, ${name}`);
    }
    out.fill(0xa5);
    await image.read(out, 0);
    sameBytes(t, out, bytes, `at once, ${name}`);
  }
});

test('many requests of one sequential reader, answered in any order, fill each its own part', async (t) => {
  const { bytes, session } = await makeSession(t);
  const image = new SessionImage(session, { pool });
  const cursor = createCursor();
  const out = new Uint8Array(bytes.length).fill(0xa5);
  const parts: Promise<void>[] = [];
  for (let at = 0; at < bytes.length; at += 65_536) parts.push(image.read(out.subarray(at, at + 65_536), at, cursor));
  await Promise.all(parts);
  sameBytes(t, out, bytes);
});

test('more bands read at once than files are held open are all read', async (t) => {
  const { bytes, session } = await makeSession(t, 80);
  const image = new SessionImage(session, { cacheBytes: 1 });
  const reads = Array.from({ length: 80 }, async (_, band) => {
    const out = new Uint8Array(4096);
    await image.read(out, band * BAND_256K + 512);
    return isSame(out, bytes.subarray(band * BAND_256K + 512).subarray(0, out.length));
  });
  const results = await Promise.allSettled(reads);
  t.deepEqual(
    results.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : result.value ? [] : ['wrong bytes'])),
    [],
  );
});

test('an image holds no file open between reads', async (t) => {
  const { bytes, session } = await makeSession(t, 60);
  const openFiles = (): string[] =>
    readdirSync('/proc/self/fd')
      .flatMap(linkOf)
      .filter((file) => file.startsWith(session.directory));
  for (const options of [{}, { pool }, { cacheBytes: 1 }]) {
    const image = new SessionImage(session, options);
    for (let at = 0; at < bytes.length; at += BAND_256K) await image.read(new Uint8Array(5000), at);
    t.deepEqual(openFiles(), []);
  }
});

test('a read that ends beyond the volume is a caller mistake; one of nothing at its end is none', async (t) => {
  const { bytes, session } = await makeSession(t, 2);
  const image = new SessionImage(session);
  await t.throwsAsync(image.read(new Uint8Array(2), bytes.length - 1), { instanceOf: RangeError });
  await t.throwsAsync(image.read(new Uint8Array(1), -1), { instanceOf: RangeError });
  await t.notThrowsAsync(image.read(new Uint8Array(0), bytes.length));
});

test('a session that is removed while it is read fails, and never gives other bytes', async (t) => {
  const { bytes, session } = await makeSession(t);
  const image = new SessionImage(session, { cacheBytes: 1 });
  const out = new Uint8Array(4096);
  await image.read(out, 0);
  rmSync(session.directory, { recursive: true });
  await image.read(out, 512);
  sameBytes(t, out, bytes.subarray(512, 4608), 'what is in the cache is still right');
  await t.throwsAsync(image.read(out, 4 * BAND_256K), { code: 'BAND_MISSING' });
});

test('images that share a cache share its room, and what sessions have in common', async (t) => {
  const { bytes, session: first, space } = await makeSession(t, 60);
  await space.sync('v', undefined, { isForced: true });
  const second = await space.session('v');
  t.not(second.sessionId, first.sessionId);
  const cache = new ReadCache(16 * CHUNK_BYTES); // eight of them for chunks
  const images = [first, second].map((session) => new SessionImage(session, { cache }));
  const isRight = async (image: SessionImage | undefined, at: number): Promise<boolean> => {
    const out = new Uint8Array(1000);
    await image?.read(out, at);
    return isSame(out, bytes.subarray(at, at + out.length));
  };
  for (let at = 0; at < bytes.length; at += BAND_256K) for (const image of images) t.true(await isRight(image, at));
  for (const at of [0, BAND_256K, 4 * BAND_256K]) t.true(await isRight(images[0], at));
  rmSync(second.directory, { recursive: true });
  for (const at of [0, BAND_256K, 4 * BAND_256K]) t.true(await isRight(images[1], at), 'the first had read it');
  for (let band = 5; band < 30; band++) await isRight(images[0], band * BAND_256K);
  await t.throwsAsync(isRight(images[1], 0), { code: 'BAND_MISSING' }, 'the first has driven it out');
});

test('a worker decodes single chunks as this thread does, and tells the errno of what it cannot open', async (t) => {
  const { bytes, session } = await makeSession(t, 4);
  const keys = shareBandKeys(session.context);
  const out = new Uint8Array(new SharedArrayBuffer(CHUNK_BYTES));
  const band = await session.readBandEntry(2);
  const [file = ''] = session.bandPaths(2, 1);
  if (band === undefined) return t.fail('band 2 has data');
  const name = nameOfSealing(band);
  for (const chunk of [0, 1]) {
    await pool.run('readChunk', { keys, file, band, chunk, name, out });
    const at = 2 * BAND_256K + chunk * CHUNK_BYTES;
    sameBytes(t, out, bytes.subarray(at, at + CHUNK_BYTES), `chunk ${chunk}`);
  }
  const error = await t.throwsAsync(pool.run('readChunk', { keys, file: `${file}x`, band, chunk: 0, name, out }), { code: 'BAND_MISSING' });
  t.is(errnoOf(error.cause), 'ENOENT');
});
