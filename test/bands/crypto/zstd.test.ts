import test from 'ava';
import fc from 'fast-check';
import { compressBound, createZstdCodec } from '../../../bands/crypto/zstd.ts';
import { CHUNK_BYTES } from '../../../bands/format/geometry.ts';
import { fill, flipBit, hex, isSame, sameBytes } from '../../support/bytes.ts';

/** 128 KiB of "A" as a frame of one RLE block, written by hand from RFC 8878. */
const HAND_MADE = hex('28b52ffda00000020003001041');
const out = new Uint8Array(CHUNK_BYTES);

function compress(plain: Uint8Array): Uint8Array {
  const room = new Uint8Array(compressBound(plain.length));
  return room.subarray(0, createZstdCodec().compress(plain, room));
}

test('a chunk comes back, whatever it holds', (t) => {
  const codec = createZstdCodec();
  const room = new Uint8Array(compressBound(CHUNK_BYTES));
  const text = new TextEncoder().encode('the quick brown fox '.repeat(CHUNK_BYTES / 20 + 1)).subarray(0, CHUNK_BYTES);
  for (const plain of [new Uint8Array(CHUNK_BYTES), new Uint8Array(CHUNK_BYTES).fill(0x41), text, fill('random', CHUNK_BYTES)]) {
    const length = codec.compress(plain, room);
    t.true(length <= room.length);
    t.true(codec.decompress(room.subarray(0, length), out.fill(1)));
    sameBytes(t, out, plain);
  }
});

test('any bytes come back at any length', (t) => {
  const codec = createZstdCodec();
  const comesBack = (plain: Uint8Array): boolean => {
    const target = new Uint8Array(plain.length).fill(0xaa);
    return codec.decompress(compress(plain), target) && isSame(target, plain);
  };
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), comesBack), { numRuns: 200 });
  t.pass();
});

test('the room that a chunk is given in a band’s scratch is enough for the worst chunk', (t) => {
  t.true(compressBound(CHUNK_BYTES) <= CHUNK_BYTES + 1024);
});

test('a frame written by hand from the standard is understood', (t) => {
  t.true(createZstdCodec().decompress(HAND_MADE, out.fill(0)));
  t.true(out.every((byte) => byte === 0x41));
});

test('a frame of fewer or more bytes than the output is refused, and nothing is written beyond the output', (t) => {
  const codec = createZstdCodec();
  const room = new Uint8Array(CHUNK_BYTES + 64).fill(0xee);
  t.false(codec.decompress(HAND_MADE, room));
  t.false(codec.decompress(HAND_MADE, room.fill(0xee).subarray(0, CHUNK_BYTES - 1)));
  t.true(room.subarray(CHUNK_BYTES - 1).every((byte) => byte === 0xee));
  t.false(codec.decompress(HAND_MADE, new Uint8Array(0)));
});

test('bytes that are no frame, a cut frame and a frame with a tail are refused', (t) => {
  const codec = createZstdCodec();
  for (const bytes of [new Uint8Array(0), new Uint8Array(20), fill('random', 100), HAND_MADE.subarray(0, -1), Uint8Array.from([...HAND_MADE, 0])]) {
    t.false(codec.decompress(bytes, out));
  }
});

test('a codec works after it refused a frame', (t) => {
  const codec = createZstdCodec();
  t.false(codec.decompress(fill('random', 1000), out));
  t.true(codec.decompress(HAND_MADE, out));
});

test('any damage to a frame is refused or gives other bytes of the same length, never an error', (t) => {
  const codec = createZstdCodec();
  const frame = compress(fill('seed', 64).map((byte) => byte & 3)).slice();
  const target = new Uint8Array(64);
  for (let bit = 0; bit < frame.length * 8; bit++) t.notThrows(() => codec.decompress(flipBit(frame, bit), target));
});
