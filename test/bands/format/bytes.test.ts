import test from 'ava';
import fc from 'fast-check';
import { concat, equalBytes, fromHex, isAllZero, readU32le, toHex, u64be, utf8, viewOf, writeU32le } from '../../../bands/format/bytes.ts';
import { hex, isSame, sameBytes, unaligned } from '../../support/bytes.ts';

test('hex comes back for any bytes', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const back = fromHex(toHex(bytes), bytes.length);
      return back !== undefined && isSame(back, bytes) && toHex(bytes) === Buffer.from(bytes).toString('hex');
    }),
  );
  t.pass();
});

test('hex is lower-case, of the asked length, and nothing but hex', (t) => {
  t.deepEqual(fromHex('00ff', 2), Uint8Array.of(0, 255));
  t.deepEqual(fromHex('', 0), new Uint8Array(0));
  for (const text of ['00FF', '00f', '00ff0', '00ff00', '00', '', '0x00', '00f ', ' 0ff', '00g0', '00f\n', '０0ff', '-0ff'])
    t.is(fromHex(text, 2), undefined, text);
});

test('bytes are equal if they have the same length and content', (t) => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 4 }), fc.uint8Array({ maxLength: 4 }), (a, b) => equalBytes(a, b) === isSame(a, b)));
  t.true(equalBytes(hex('0102'), Buffer.from([1, 2])));
});

test('bytes are all zero if none differs from zero', (t) => {
  t.true(isAllZero(new Uint8Array(0)));
  t.true(isAllZero(new Uint8Array(1000)));
  for (let i = 0; i < 40; i++) {
    const bytes = new Uint8Array(40);
    bytes[i] = 0x80;
    t.false(isAllZero(bytes));
  }
});

test('u32le is written and read at any place of a view', (t) => {
  const bytes = unaligned(new Uint8Array(9));
  writeU32le(bytes, 3, 0x8765_4321);
  sameBytes(t, bytes, hex('000000214365870000'));
  t.is(readU32le(bytes, 3), 0x8765_4321);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (value) => {
      writeU32le(bytes, 1, value);
      return readU32le(bytes, 1) === value;
    }),
  );
});

test('reading or writing beyond the bytes is the caller’s mistake', (t) => {
  const bytes = new Uint8Array(new ArrayBuffer(16), 4, 8);
  t.throws(() => readU32le(bytes, 5), { instanceOf: RangeError });
  t.throws(() => writeU32le(bytes, 5, 1), { instanceOf: RangeError });
});

test('u64be holds every safe number', (t) => {
  sameBytes(t, u64be(0), new Uint8Array(8));
  sameBytes(t, u64be(258), hex('0000000000000102'));
  sameBytes(t, u64be(Number.MAX_SAFE_INTEGER), hex('001fffffffffffff'));
  fc.assert(fc.property(fc.nat(Number.MAX_SAFE_INTEGER), (value) => viewOf(u64be(value)).getBigUint64(0) === BigInt(value)));
  t.throws(() => u64be(0.5), { instanceOf: RangeError });
});

test('texts become UTF-8, and parts are joined in order', (t) => {
  sameBytes(t, utf8('aß€😀'), Buffer.from('aß€😀'));
  sameBytes(t, concat(hex('01'), new Uint8Array(0), hex('0203')), hex('010203'));
});
