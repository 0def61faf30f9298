/** The caches behind reads: bounded, and never giving a buffer away while somebody may look at it. */
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import type { BandHeader } from '../../../bands/format/band-header.ts';
import { CHUNK_BYTES } from '../../../bands/format/geometry.ts';
import { BandCache } from '../../../bands/store/band-cache.ts';
import { ChunkCache } from '../../../bands/store/chunk-cache.ts';
import { HeaderCache } from '../../../bands/store/header-cache.ts';
import { SpareBuffers } from '../../../bands/store/spare-buffers.ts';

const SIZE = 1000;

/** Loads or decodes a buffer full of `value` after a few turns. */
function filling(value: number, log: number[], turns = 1): (out: Uint8Array) => Promise<void> {
  return async (out) => {
    log.push(value);
    for (let i = 0; i < turns; i++) await turn();
    out.fill(value);
  };
}

test('the chunk cache keeps the chunks that were used last, as many as have room', async (t) => {
  const cache = new ChunkCache(3 * CHUNK_BYTES);
  const loaded: number[] = [];
  const get = (value: number): Promise<Uint8Array> => cache.get(`c${value}`, filling(value, loaded));
  for (const value of [1, 2, 3, 1, 4, 1, 3, 2]) t.is((await get(value))[0], value);
  t.deepEqual(loaded, [1, 2, 3, 4, 2]);
});

test('the chunk cache asks for shared memory in large pieces, and not for more than it may keep', async (t) => {
  const memoryOf = async (maxChunks: number): Promise<SharedArrayBuffer[]> => {
    const cache = new ChunkCache(maxChunks * CHUNK_BYTES);
    const chunks = await Promise.all(Array.from({ length: maxChunks }, (_, i) => cache.get(`c${i}`, filling(i, []))));
    const at = new Set(chunks.map(({ buffer, byteOffset }) => `${chunks.findIndex((other) => other.buffer === buffer)}+${byteOffset}`));
    t.is(at.size, maxChunks, 'no two chunks share bytes');
    return [...new Set(chunks.map(({ buffer }) => buffer))].filter((buffer) => buffer instanceof SharedArrayBuffer);
  };
  t.deepEqual(
    (await memoryOf(3)).map(({ byteLength }) => byteLength),
    [3 * CHUNK_BYTES],
  );
  t.is((await memoryOf(40)).length, 3);
});

test('a failed load is not kept, whoever waited for it', async (t) => {
  const cache = new ChunkCache(1);
  const fail = (): Promise<void> => Promise.reject(new Error('bad'));
  const both = await Promise.allSettled([cache.get('c', fail), cache.get('c', fail)]);
  t.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  t.is((await cache.get('c', filling(7, [])))[0], 7);
});

test('whatever is loaded and driven out meanwhile, everybody gets the bytes that were asked for', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.nat({ max: 5 }), fc.nat({ max: 3 }), fc.boolean()), { maxLength: 40 }), async (requests) => {
      const cache = new ChunkCache(2 * CHUNK_BYTES);
      const answers: Promise<boolean>[] = [];
      for (const [value, turns, isAwaited] of requests) {
        const answer = cache.get(`c${value}`, filling(value, [], turns)).then((bytes) => bytes.every((byte) => byte === value));
        answers.push(answer);
        if (isAwaited) await answer;
      }
      return !(await Promise.all(answers)).includes(false);
    }),
    { numRuns: 20 },
  );
  t.pass();
});

test('a band that is needed drives out the one longest unused; one that may be wanted drives out none that is unread', async (t) => {
  const cache = new BandCache(3 * SIZE);
  const decoded: number[] = [];
  const start = (value: number, isNeeded: boolean): void => cache.start(`b${value}`, { sizeBytes: SIZE, isNeeded, decode: filling(value, decoded) });
  const isHere = (value: number): boolean => cache.get(`b${value}`) !== undefined;
  for (const value of [1, 2, 3]) start(value, false);
  start(4, false);
  t.deepEqual(decoded, [1, 2, 3], 'there was no room');
  t.is((await cache.get('b2'))?.[0], 2);
  start(4, false);
  t.deepEqual(decoded, [1, 2, 3, 4], 'the one that was read made room');
  await turn(); // until then somebody may look at the buffer of the one that went
  await turn();
  start(5, true);
  t.deepEqual(decoded, [1, 2, 3, 4, 5]);
  t.deepEqual([1, 2, 3, 4, 5].map(isHere), [false, false, true, true, true]);
  t.is((await cache.get('b5'))?.[0], 5);
});

test('a band that cannot be decoded is undefined, and bands of several sizes share the room', async (t) => {
  const cache = new BandCache(3 * SIZE);
  cache.start('bad', { sizeBytes: SIZE, isNeeded: true, decode: () => Promise.reject(new Error('bad')) });
  t.is(await cache.get('bad'), undefined);
  cache.start('large', { sizeBytes: 2 * SIZE, isNeeded: true, decode: filling(2, []) });
  cache.start('small', { sizeBytes: SIZE, isNeeded: true, decode: filling(3, []) });
  t.is(cache.get('bad'), undefined);
  t.deepEqual([(await cache.get('large'))?.length, (await cache.get('small'))?.length], [2 * SIZE, SIZE]);
  cache.start('too large', { sizeBytes: 4 * SIZE, isNeeded: true, decode: filling(4, []) });
  t.is(cache.get('too large'), undefined);
});

test('spare buffers come again by size, and no more lie unused than may', (t) => {
  const spares = new SpareBuffers(2 * SIZE);
  const [a, b, c] = [spares.take(SIZE), spares.take(SIZE), spares.take(SIZE)];
  for (const one of [a, b, c]) spares.give(one);
  t.is(spares.take(SIZE), b);
  t.is(spares.take(SIZE), a);
  t.not(spares.take(SIZE), c);
  t.is(spares.take(SIZE / 2).length, SIZE / 2);
});

test('bands are decoded into buffers that are used again: no more are made than have room, and one', async (t) => {
  const cache = new BandCache(3 * SIZE);
  const buffers = new Set<Uint8Array>();
  const answers: boolean[] = [];
  for (let value = 0; value < 100; value++) {
    cache.start(`b${value}`, { sizeBytes: SIZE, isNeeded: true, decode: (out) => filling(value, [], value % 3)(buffers.add(out) && out) });
    const bytes = cache.get(`b${value}`);
    if (bytes !== undefined) answers.push((await bytes)?.every((byte) => byte === value) === true);
    else await turn();
  }
  t.true(answers.length > 40 && !answers.includes(false), `${answers.length} were decoded`);
  t.true(buffers.size <= 4, `${buffers.size} buffers`);
});

test('what was read to its end makes room before more memory is taken; what was not stays', async (t) => {
  const bandBytes = 1_048_576;
  const cache = new BandCache(128 * bandBytes);
  const buffers = new Set<Uint8Array>();
  const start = (value: number): void =>
    cache.start(`b${value}`, { sizeBytes: bandBytes, isNeeded: true, decode: (out) => filling(value, [])(buffers.add(out) && out) });
  start(1000);
  t.is((await cache.get('b1000'))?.[0], 1000 % 256);
  for (let value = 0; value < 100; value++) {
    start(value);
    t.is((await cache.get(`b${value}`, true))?.[7], value);
    await turn();
  }
  t.true(buffers.size <= 34, `${buffers.size} buffers`);
  t.not(cache.get('b1000'), undefined);
  for (let value = 200; value < 300; value++) {
    start(value);
    await cache.get(`b${value}`);
  }
  t.true(buffers.size > 100, 'bands that are being read are all kept');
});

test('headers are kept by what they take, those used last', (t) => {
  const headers = new HeaderCache();
  const header = (chunks: number): BandHeader => ({
    salt: new Uint8Array(24),
    chunks: Array.from({ length: chunks }, () => ({ offset: 0, length: 0, isRaw: false })),
    padding: undefined,
    key: new Uint8Array(32),
    baseNonce: new Uint8Array(12),
    fileBytes: 0,
  });
  for (let i = 0; i < 4096; i++) headers.put(`h${i}`, header(16));
  t.not(headers.get('h0'), undefined);
  headers.put('next', header(32));
  t.deepEqual(
    ['h0', 'h1', 'h2', 'h3', 'next'].map((key) => headers.get(key) !== undefined),
    [true, false, false, true, true],
  );
});
