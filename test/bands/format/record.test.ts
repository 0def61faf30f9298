import test from 'ava';
import fc from 'fast-check';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { ID_BYTES } from '../../../bands/format/keys.ts';
import {
  openRecord,
  RECORD_NONCE_BYTES,
  RECORD_OVERHEAD_BYTES,
  type RecordKind,
  type RecordPlace,
  sealRecord,
} from '../../../bands/format/record.ts';
import { formatSessionId } from '../../../bands/format/session-id.ts';
import { fill, flipBit, hex, isSame, sameBytes } from '../../support/bytes.ts';
import { damaged, isRefused, takesAnyBytes } from './any-bytes.ts';
import { anyBytes } from './json-suite.ts';
import { type FaultyFile, readVectors } from './vectors.ts';

interface RecordVectors {
  readonly key: string;
  readonly volumeId: string;
  readonly nonce: string;
  readonly vectors: readonly { readonly kind: RecordKind; readonly at: string | number | null; readonly plain: string; readonly file: string }[];
  readonly faults: readonly FaultyFile[];
}

const { vectors, faults, ...fixed } = readVectors<RecordVectors>('record');
const [key, volumeId, nonce] = [hex(fixed.key), hex(fixed.volumeId), hex(fixed.nonce)];
const manifestPlace: RecordPlace = { kind: 'manifest', volumeId, at: '20261121T100000.123Z' };

test('the records of the vectors are sealed to their bytes, and opened', (t) => {
  for (const vector of vectors) {
    const place: RecordPlace = { kind: vector.kind, volumeId, ...(vector.at === null ? {} : { at: vector.at }) };
    sameBytes(t, sealRecord(key, place, { nonce, plain: hex(vector.plain) }), hex(vector.file), `sealed ${vector.kind}`);
    sameBytes(t, openRecord(key, place, hex(vector.file)), hex(vector.plain), `opened ${vector.kind}`);
  }
});

for (const fault of faults) {
  test(`a record with one fault (${fault.name}) is refused`, (t) => {
    t.throws(() => openRecord(key, manifestPlace, hex(fault.file)), { name: 'TimebandError', code: fault.error });
  });
}

const places: fc.Arbitrary<RecordPlace> = fc.oneof(
  fc.record({ kind: fc.constant('volume' as const), volumeId: anyBytes(ID_BYTES) }),
  fc.record({
    kind: fc.constantFrom<RecordKind[]>('manifest', 'labels', 'bitmap'),
    volumeId: anyBytes(ID_BYTES),
    at: fc.nat(Date.UTC(9999, 0)).map(formatSessionId),
  }),
  fc.record({ kind: fc.constant('page' as const), volumeId: anyBytes(ID_BYTES), at: fc.nat(2 ** 40) }),
);

test('any record comes back in its place', (t) => {
  const comesBack = (anyKey: Uint8Array, place: RecordPlace, anyNonce: Uint8Array, plain: Uint8Array): boolean => {
    const file = sealRecord(anyKey, place, { nonce: anyNonce, plain });
    return file.length === plain.length + RECORD_OVERHEAD_BYTES && isSame(openRecord(anyKey, place, file), plain);
  };
  fc.assert(fc.property(anyBytes(32), places, anyBytes(RECORD_NONCE_BYTES), fc.uint8Array({ maxLength: 500 }), comesBack));
  t.pass();
});

test('a record opens in no other place', (t) => {
  const staysHere = (here: RecordPlace, there: RecordPlace): boolean => {
    const file = sealRecord(key, here, { nonce, plain: fill('plain', 20) });
    return JSON.stringify(here) === JSON.stringify(there) || isRefused(() => openRecord(key, there, file), 'RECORD_CORRUPT');
  };
  const inOneVolume = places.map((place): RecordPlace => ({ ...place, volumeId }));
  fc.assert(fc.property(inOneVolume, inOneVolume, staysHere), { numRuns: 300 });
  for (const kind of ['volume', 'labels', 'bitmap', 'page'] as const) t.true(staysHere(manifestPlace, { ...manifestPlace, kind }));
});

test('every turned bit is noticed, with the checksum made right or not', (t) => {
  const file = sealRecord(key, manifestPlace, { nonce, plain: fill('plain', 40) });
  for (let bit = 0; bit < file.length * 8; bit++) {
    const damage = flipBit(file, bit);
    if (!isRefused(() => openRecord(key, manifestPlace, damage), 'RECORD_CORRUPT')) t.fail(`bit ${bit}`);
    if (bit >= (file.length - 4) * 8) continue;
    new DataView(damage.buffer).setUint32(file.length - 4, nodePrimitives.crc32(damage.subarray(0, -4)), true);
    if (!isRefused(() => openRecord(key, manifestPlace, damage), 'RECORD_CORRUPT')) t.fail(`bit ${bit}, checksum made right`);
  }
  t.pass();
});

test('any bytes are refused', (t) => {
  const samples = vectors.map((vector) => hex(vector.file));
  takesAnyBytes(t, { decode: (file) => openRecord(key, manifestPlace, file), code: 'RECORD_CORRUPT', samples }, 500);
});

test('any damage gives RECORD_CORRUPT, unless nothing was changed', (t) => {
  const file = sealRecord(key, manifestPlace, { nonce, plain: fill('plain', 100) });
  const isNoticed = (bytes: Uint8Array): boolean => isSame(bytes, file) || isRefused(() => openRecord(key, manifestPlace, bytes), 'RECORD_CORRUPT');
  fc.assert(fc.property(damaged(file), isNoticed), { numRuns: 500 });
  t.pass();
});

test('sealing leaves key, nonce and content as they were, and the result shares no memory with them', (t) => {
  const content = { nonce: Uint8Array.from(nonce), plain: fill('plain', 40) };
  const file = sealRecord(key, manifestPlace, content);
  content.plain.fill(0);
  content.nonce.fill(0);
  sameBytes(t, openRecord(key, manifestPlace, file), fill('plain', 40));
  sameBytes(t, key, hex(fixed.key));
});

test('a nonce of another length is the caller’s mistake', (t) => {
  for (const length of [0, 12, 23, 25]) t.throws(() => sealRecord(key, manifestPlace, { nonce: new Uint8Array(length), plain: new Uint8Array(1) }));
});

test('a record is opened from a Buffer, as files are read', (t) => {
  const file = Buffer.from(hex(vectors[0]?.file ?? ''));
  sameBytes(t, openRecord(key, manifestPlace, file), new TextEncoder().encode('plain'));
});
