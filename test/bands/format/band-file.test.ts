import test from 'ava';
import fc from 'fast-check';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { createBandScratch, encodeBand, hasValidCrc, openChunk } from '../../../bands/format/band-file.ts';
import {
  BAND_MAGIC,
  type BandContext,
  bandHeaderBytes,
  maxBandFileBytes,
  openBandHeader,
  readBandSalt,
  SALT_BYTES,
} from '../../../bands/format/band-header.ts';
import { CHUNK_BYTES, MAX_BAND_BYTES } from '../../../bands/format/geometry.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { type ChunkCodec, CIPHER_NAMES } from '../../../bands/format/primitives.ts';
import { fill, flipBit, isSame, sameBytes, unaligned } from '../../support/bytes.ts';
import { damaged, isRefused } from './any-bytes.ts';
import { anyBand, anyCipher, bandOf, chunkOf, contextOf, opened, openedByChunks, SALT, SMALL_BAND, sealed } from './band-support.ts';
import { anyBytes } from './json-suite.ts';

const TWO_MIB = 2_097_152;
const BOTH = { node: nodePrimitives, noble: noblePrimitives };
const text = chunkOf('text', 'a');
const random = chunkOf('random', 'b');
const zeros = new Uint8Array(CHUNK_BYTES);

for (const { bandBytes, by, numRuns } of [
  { bandBytes: SMALL_BAND, by: 'node', numRuns: 60 },
  { bandBytes: SMALL_BAND, by: 'noble', numRuns: 20 },
  { bandBytes: TWO_MIB, by: 'node', numRuns: 20 },
  { bandBytes: TWO_MIB, by: 'noble', numRuns: 4 },
] as const) {
  test(`${by}: any band of ${bandBytes / 1024} KiB comes back, whole or chunk by chunk`, (t) => {
    const comesBack = (plain: Uint8Array, cipher: BandContext['cipher'], salt: Uint8Array): boolean => {
      const context = contextOf({ bandBytes, cipher, primitives: BOTH[by] });
      const file = sealed(context, plain, salt);
      const isWithin = file.length <= maxBandFileBytes(bandBytes) && isSame(readBandSalt(file), salt) && hasValidCrc(nodePrimitives, file);
      return isWithin && isSame(opened(context, file, salt), plain) && isSame(openedByChunks(context, file, salt), plain);
    };
    fc.assert(fc.property(anyBand(bandBytes), anyCipher, anyBytes(SALT_BYTES), comesBack), { numRuns });
    t.pass();
  });
}

test('both implementations write the same file', (t) => {
  const writesSame = (plain: Uint8Array, cipher: BandContext['cipher']): boolean =>
    isSame(sealed(contextOf({ cipher }), plain), sealed(contextOf({ cipher, primitives: noblePrimitives }), plain));
  fc.assert(fc.property(anyBand(SMALL_BAND), anyCipher, writesSame), { numRuns: 20 });
  t.pass();
});

test('the largest band comes back, and its last chunk opens alone', (t) => {
  const context = contextOf({ bandBytes: MAX_BAND_BYTES });
  const plain = new Uint8Array(MAX_BAND_BYTES);
  plain.set(random, 300 * CHUNK_BYTES);
  plain.set(text, MAX_BAND_BYTES - CHUNK_BYTES);
  sameBytes(t, openedByChunks(context, sealed(context, plain)), plain);
});

test('a header is 64 bytes and 4 a chunk; a file is at most a little larger than its band', (t) => {
  t.is(bandHeaderBytes(SMALL_BAND), 72);
  t.is(bandHeaderBytes(TWO_MIB), 128);
  const noise = bandOf(random, chunkOf('random', 'c'));
  t.is(sealed(contextOf(), noise).length, 72 + SMALL_BAND + 32 + 4);
});

test('chunks of zeros take no bytes, and a band of zeros is a header and a checksum', (t) => {
  t.is(sealed(contextOf(), bandOf(zeros, zeros)).length, 76);
  const { chunks } = openBandHeader(contextOf(), sealed(contextOf(), bandOf(zeros, random)), { salt: SALT, fileBytes: 72 + CHUNK_BYTES + 16 + 4 });
  t.deepEqual(chunks, [
    { offset: 72, length: 0, isRaw: false },
    { offset: 72, length: CHUNK_BYTES + 16, isRaw: true },
  ]);
});

test('a chunk is kept raw unless compression saves a sixteenth', (t) => {
  for (const { length, stored, isRaw } of [
    { length: 1, stored: 17, isRaw: false },
    { length: 122_880, stored: 122_896, isRaw: false },
    { length: 122_881, stored: CHUNK_BYTES + 16, isRaw: true },
    { length: 131_500, stored: CHUNK_BYTES + 16, isRaw: true },
  ]) {
    const codec: ChunkCodec = { compress: () => length, decompress: () => false };
    const file = sealed(contextOf({ codec }), bandOf(text, zeros));
    const [first] = openBandHeader(contextOf(), file, { salt: SALT, fileBytes: file.length }).chunks;
    t.deepEqual(first, { offset: 72, length: stored, isRaw });
  }
});

test('the caller’s own test for zeros is asked of every chunk', (t) => {
  const asked: number[] = [];
  const isZero = (chunk: Uint8Array): boolean => asked.push(chunk.length) < 0 || chunk.every((byte) => byte === 0);
  const { file } = encodeBand(contextOf(), bandOf(zeros, text), { salt: SALT, scratch: createBandScratch(SMALL_BAND), isZero });
  t.deepEqual(asked, [CHUNK_BYTES, CHUNK_BYTES]);
  sameBytes(t, file, sealed(contextOf(), bandOf(zeros, text)));
});

test('a scratch that held another band leaves no trace in the next file', (t) => {
  const scratch = createBandScratch(SMALL_BAND);
  encodeBand(contextOf(), bandOf(random, random), { salt: fill('salt 2', SALT_BYTES), scratch });
  sameBytes(t, encodeBand(contextOf(), bandOf(zeros, text), { salt: SALT, scratch }).file, sealed(contextOf(), bandOf(zeros, text)));
});

test('encoding leaves the band alone, and takes and opens views at odd addresses and Buffers', (t) => {
  const plain = unaligned(bandOf(text, random));
  const file = sealed(contextOf(), plain);
  sameBytes(t, plain, bandOf(text, random));
  sameBytes(t, opened(contextOf(), unaligned(file)), plain);
  sameBytes(t, openedByChunks(contextOf(), Buffer.from(file), Buffer.from(SALT)), plain);
});

test('an opened header shares no memory with the bytes that it was read from', (t) => {
  const plain = bandOf(text, random);
  const file = sealed(contextOf(), plain);
  const start = file.slice(0, 72);
  const header = openBandHeader(contextOf(), start, { salt: SALT, fileBytes: file.length });
  start.fill(0);
  sameBytes(t, header.salt, SALT);
  const { offset = 0, length = 0 } = header.chunks[1] ?? {};
  const out = new Uint8Array(CHUNK_BYTES);
  openChunk(contextOf(), header, { number: 1, sealed: file.subarray(offset, offset + length), scratch: new Uint8Array(CHUNK_BYTES), out });
  sameBytes(t, out, random);
});

test('a header opens its chunks in any order, and as often as asked', (t) => {
  const [context, plain] = [contextOf(), bandOf(text, random)];
  const file = sealed(context, plain);
  const header = openBandHeader(context, file, { salt: SALT, fileBytes: file.length });
  const out = new Uint8Array(CHUNK_BYTES);
  for (const number of [1, 0, 1, 1, 0]) {
    const { offset = 0, length = 0 } = header.chunks[number] ?? {};
    openChunk(context, header, { number, sealed: file.subarray(offset, offset + length), scratch: new Uint8Array(CHUNK_BYTES), out });
    sameBytes(t, out, plain.subarray(number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES));
  }
});

test('a chunk number beyond the band and a plain that is no whole band are the caller’s mistakes', (t) => {
  const file = sealed(contextOf(), bandOf(text, zeros));
  const header = openBandHeader(contextOf(), file, { salt: SALT, fileBytes: file.length });
  const chunk = { number: 2, sealed: new Uint8Array(0), scratch: new Uint8Array(CHUNK_BYTES), out: new Uint8Array(CHUNK_BYTES) };
  t.throws(() => openChunk(contextOf(), header, chunk), { instanceOf: RangeError });
  for (const length of [0, SMALL_BAND - 1, SMALL_BAND + 1, TWO_MIB])
    t.throws(() => sealed(contextOf(), new Uint8Array(length)), { instanceOf: RangeError });
});

for (const cipher of CIPHER_NAMES) {
  test(`${cipher}: every turned bit of a small file is noticed, by the key and without it`, (t) => {
    const context = contextOf({ cipher });
    const file = sealed(context, bandOf(chunkOf('constant', 'a'), chunkOf('constant', 'b')));
    for (let bit = 0; bit < file.length * 8; bit++) {
      const isInCrc = bit >= (file.length - 4) * 8; // the keyed decoder has the tags and leaves the checksum to hasValidCrc
      if (!isInCrc && !isRefused(() => opened(context, flipBit(file, bit)), 'BAND_CORRUPT')) t.fail(`bit ${bit}`);
      if (hasValidCrc(nodePrimitives, flipBit(file, bit))) t.fail(`bit ${bit}, checksum`);
    }
    t.pass();
  });
}

test('any damage to any file is refused, or lies in the checksum and changes nothing', (t) => {
  const plain = bandOf(random, text);
  const file = sealed(contextOf(), plain);
  const isNoticed = (bytes: Uint8Array): boolean => {
    if (isRefused(() => opened(contextOf(), bytes), 'BAND_CORRUPT')) return true;
    return isSame(bytes.subarray(0, -4), file.subarray(0, -4)) && isSame(opened(contextOf(), bytes), plain);
  };
  const inHeader = damaged(file.slice(0, 200)).map((start) => bandOf(start, file.subarray(200)));
  const inWhole = fc.nat(file.length * 8 - 1).map((bit) => flipBit(file, bit));
  const cut = fc.nat(file.length - 1).map((end) => file.slice(0, end));
  const longer = fc.uint8Array({ minLength: 1, maxLength: 64 }).map((tail) => bandOf(file, tail));
  fc.assert(fc.property(fc.oneof(inHeader, inWhole, cut, longer, fc.uint8Array({ maxLength: 300 })), isNoticed), { numRuns: 400 });
  t.pass();
});

test('any start of a file is refused or a header', (t) => {
  const file = sealed(contextOf(), bandOf(random, text));
  const isSound = (start: Uint8Array): boolean =>
    isRefused(() => openBandHeader(contextOf(), start, { salt: SALT, fileBytes: file.length }), 'BAND_CORRUPT') ||
    isSame(start.subarray(0, 72), file.subarray(0, 72));
  fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), damaged(file.slice(0, 72)), damaged(file.slice(0, 100))), isSound), {
    numRuns: 1000,
  });
  t.true(isRefused(() => readBandSalt(file.subarray(0, 63)), 'BAND_CORRUPT'));
  t.true(
    isRefused(
      () =>
        readBandSalt(
          bandOf(
            BAND_MAGIC.map((byte) => byte ^ 1),
            file.subarray(8),
          ),
        ),
      'BAND_CORRUPT',
    ),
  );
});
