/** NBD messages: what is encoded decodes to the same, and any bytes are a value or a TimebandError. */
import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../bands/errors.ts';
import { Coverage } from '../../../src/nbd/client/coverage.ts';
import * as handshake from '../../../src/nbd/handshake-codec.ts';
import * as transmission from '../../../src/nbd/transmission-codec.ts';
import { hex } from '../../support/bytes.ts';
import { codeOf } from '../../support/library.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const size = fc.maxSafeNat();
const cookie = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn });
const text = fc.string({ maxLength: 60, unit: 'grapheme' });
/** Bytes of the magic number, which is read before the rest. */
const MAGIC = 4;

test('every message decodes to what was encoded', (t) => {
  const check = <T>(arbitrary: fc.Arbitrary<T>, encode: (value: T) => Uint8Array, decode: (bytes: Uint8Array) => T): void => {
    fc.assert(fc.property(arbitrary, (value) => t.deepEqual(decode(encode(value)), value)));
  };
  check(u16, handshake.encodeGreeting, handshake.decodeGreeting);
  check(u32, handshake.encodeClientFlags, handshake.decodeClientFlags);
  check(fc.record({ exportName: text, infos: fc.array(u16, { maxLength: 5 }) }), handshake.encodeExportRequest, handshake.decodeExportRequest);
  check(
    fc.record({ exportName: text, queries: fc.array(text, { maxLength: 5 }) }),
    handshake.encodeMetaContextRequest,
    handshake.decodeMetaContextRequest,
  );
  check(fc.record({ id: u32, name: text }), handshake.encodeMetaContext, handshake.decodeMetaContext);
  check(fc.record({ exportName: text, details: text }), handshake.encodeServerListing, handshake.decodeServerListing);
  const info = fc.oneof(
    fc.record({ kind: fc.constant('export' as const), sizeBytes: size, flags: u16 }),
    fc.record({ kind: fc.constant('block size' as const), minimum: u32, preferred: u32, maximum: u32 }),
    fc.record({ kind: fc.constantFrom('name' as const, 'description' as const), text }),
  );
  fc.assert(fc.property(info, (value) => t.deepEqual(handshake.decodeExportInfo(handshake.encodeExportInfo(value)), value)));
  check(fc.record({ flags: u16, command: u16, cookie, offset: size, length: u32 }), transmission.encodeRequest, transmission.decodeRequest);
  const skipMagic =
    <T>(decode: (bytes: Uint8Array) => T) =>
    (bytes: Uint8Array): T =>
      decode(bytes.subarray(MAGIC));
  check(fc.record({ error: u32, cookie }), transmission.encodeSimpleReply, skipMagic(transmission.decodeSimpleReply));
  check(fc.record({ flags: u16, type: u16, cookie, length: u32 }), transmission.encodeChunkHeader, skipMagic(transmission.decodeChunkHeader));
  check(size, transmission.encodeDataOffset, transmission.decodeDataOffset);
  check(fc.record({ offset: size, length: u32 }), transmission.encodeHole, transmission.decodeHole);
  const extents = fc.array(fc.record({ length: fc.integer({ min: 1, max: 0xffffffff }), flags: u32 }), { minLength: 1, maxLength: 9 });
  check(fc.record({ contextId: u32, extents }), transmission.encodeBlockStatus, transmission.decodeBlockStatus);
  check(fc.record({ error: fc.integer({ min: 1, max: 200 }), message: text }), transmission.encodeErrorPayload, transmission.decodeErrorPayload);
});

test('the first messages have the bytes of the specification', (t) => {
  t.deepEqual(Buffer.from(handshake.encodeGreeting(3)).toString('latin1'), 'NBDMAGICIHAVEOPT\0\x03');
  t.deepEqual(new Uint8Array(handshake.encodeOption(8)), hex('49484156454f50540000000800000000'));
  t.deepEqual(new Uint8Array(handshake.encodeOptionReply(7, 1)), hex('0003e889045565a9000000070000000100000000'));
  t.deepEqual(
    transmission.encodeRequest({ flags: 0, command: 7, cookie: 5n, offset: 512, length: 1024 }),
    hex('256095130000000700000000000000050000000000000200' + '00000400'),
  );
});

test('any bytes decode, or are refused', (t) => {
  const decoders: ((bytes: Uint8Array) => unknown)[] = [
    ...Object.entries(handshake).flatMap(([name, value]) => (name.startsWith('decode') ? [value as (bytes: Uint8Array) => unknown] : [])),
    ...Object.entries(transmission).flatMap(([name, value]) => (name.startsWith('decode') ? [value as (bytes: Uint8Array) => unknown] : [])),
  ];
  t.true(decoders.length >= 14);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      for (const decode of decoders) {
        try {
          decode(bytes);
        } catch (error) {
          t.true(error instanceof TimebandError, String(error));
        }
      }
    }),
  );
});

test('a request is covered by parts in any order, each exactly once', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }),
      fc.infiniteStream(fc.nat()),
      async (lengths, random) => {
        const total = lengths.reduce((sum, one) => sum + one, 0);
        const startOf = (i: number): number => lengths.slice(0, i).reduce((sum, one) => sum + one, 100);
        const parts = lengths.map((length, i) => ({ start: startOf(i), length, key: random.next().value ?? 0 }));
        const coverage = new Coverage(100, total);
        for (const [i, { start, length }] of parts.toSorted((a, b) => a.key - b.key).entries()) {
          t.false(coverage.isComplete);
          coverage.add(start, length);
          t.is(await codeOf(() => coverage.add(start, length)), 'SOURCE_INVALID', 'twice');
          t.is(coverage.isComplete, i === parts.length - 1);
        }
      },
    ),
  );
  for (const [start, length] of [
    [99, 1],
    [99, 30],
    [120, 1],
    [119, 2],
    [100, 0],
  ] as const)
    t.is(await codeOf(() => new Coverage(100, 20).add(start, length)), 'SOURCE_INVALID');
  const overlapped = new Coverage(0, 30);
  overlapped.add(0, 10);
  overlapped.add(20, 10);
  t.is(await codeOf(() => overlapped.add(10, 11)), 'SOURCE_INVALID');
  t.is(await codeOf(() => overlapped.add(5, 10)), 'SOURCE_INVALID');
});
