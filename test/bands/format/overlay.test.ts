import { createCipheriv, createHmac } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../bands/errors.ts';
import { deriveVolumeKey, deriveVolumeKeys } from '../../../bands/format/keys.ts';
import { decodeOverlayHeader, deriveOverlayKey, encodeOverlayHeader, overlayLayout } from '../../../bands/format/overlay.ts';
import { flipBit, hex } from '../../support/bytes.ts';

const volumeId = new Uint8Array(16).fill(5);
const volume = { volumeId, keys: deriveVolumeKeys(deriveVolumeKey(new Uint8Array(32).fill(1), volumeId), volumeId) };
const other = { volumeId, keys: deriveVolumeKeys(deriveVolumeKey(new Uint8Array(32).fill(2), volumeId), volumeId) };
const header = {
  sessionId: '20261121T100000.123Z',
  manifestDigest: new Uint8Array(32).fill(7),
  sizeBytes: 8192,
  salt: new Uint8Array(32).fill(9),
};
const nonce = new Uint8Array(24).fill(3);

test('a header decodes to what was encoded, and only with the key of its volume', (t) => {
  const bytes = encodeOverlayHeader(volume, header, nonce);
  t.is(bytes.length, 4096);
  t.deepEqual(decodeOverlayHeader(volume, bytes), header);
  t.throws(() => decodeOverlayHeader(other, bytes), { instanceOf: TimebandError, code: 'RECORD_CORRUPT' });
  t.throws(() => decodeOverlayHeader({ ...volume, volumeId: new Uint8Array(16) }, bytes), { code: 'RECORD_CORRUPT' });
});

test('a header with any bit turned is none, nor are any other bytes', (t) => {
  const bytes = encodeOverlayHeader(volume, header, nonce);
  fc.assert(
    fc.property(fc.nat(4096 * 8 - 1), (bit) => void t.throws(() => decodeOverlayHeader(volume, flipBit(bytes, bit)), { code: 'RECORD_CORRUPT' })),
    { numRuns: 60 },
  );
  for (const fillByte of [0, 255]) t.throws(() => decodeOverlayHeader(volume, new Uint8Array(4096).fill(fillByte)), { code: 'RECORD_CORRUPT' });
});

test('the map is rounded up to whole blocks, and has a bit for each', (t) => {
  t.deepEqual(overlayLayout(512), { blocks: 1, mapBytes: 4096, dataAt: 8192, fileBytes: 12_288 });
  t.deepEqual(overlayLayout(128 * 1_048_576), { blocks: 32_768, mapBytes: 4096, dataAt: 8192, fileBytes: 8192 + 128 * 1_048_576 });
  t.is(overlayLayout(128 * 1_048_576 + 512).mapBytes, 8192);
});

test('a block is sealed as FORMAT.md says: AES-256-XTS under a key of its salt, its number the tweak', (t) => {
  const key = deriveOverlayKey(volume.keys, header.salt);
  const info = Buffer.concat([Buffer.from('timeband/v1/overlay\0'), header.salt]);
  const hmac = (...parts: Uint8Array[]): Buffer => createHmac('sha256', volume.keys.recordsKey).update(Buffer.concat(parts)).digest();
  const first = hmac(info, Uint8Array.of(1)); // HKDF-Expand by hand, as RFC 5869 has it
  t.is(Buffer.from(key).toString('hex'), Buffer.concat([first, hmac(first, info, Uint8Array.of(2))]).toString('hex'));
  // IEEE 1619, vector 10, whose key and tweak are of this shape.
  const vectorKey = hex(
    '2718281828459045235360287471352662497757247093699959574966967627' + '3141592653589793238462643383279502884197169399375105820974944592',
  );
  const tweak = hex('ff000000000000000000000000000000');
  const plain = Uint8Array.from({ length: 512 }, (_, i) => i % 256);
  const sealed = createCipheriv('aes-256-xts', vectorKey, tweak).update(plain);
  t.is(sealed.subarray(0, 16).toString('hex'), '1c3b3a102f770386e4836c99e370cf9b');
});
