import { crc32 as zlibCrc32 } from 'node:zlib';
import test from 'ava';
import fc from 'fast-check';
import { crc32 } from '../../../bands/format/crc32.ts';
import { fill, flipBit } from '../../support/bytes.ts';

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

test('the check value of the CRC catalogue comes out', (t) => {
  t.is(crc32(ascii('123456789')), 0xcbf4_3926);
});

test('known texts give their known sums, as unsigned numbers', (t) => {
  t.is(crc32(new Uint8Array(0)), 0);
  t.is(crc32(Uint8Array.of(0)), 0xd202_ef8d);
  t.is(crc32(new Uint8Array(4).fill(0xff)), 0xffff_ffff);
  t.is(crc32(ascii('The quick brown fox jumps over the lazy dog')), 0x414f_a339);
});

test('it is the CRC-32 of zlib for any bytes', (t) => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => crc32(bytes) === zlibCrc32(bytes)));
  const large = fill('large', 1_000_003);
  t.is(crc32(large), zlibCrc32(large));
});

test('every turned bit, and every swap of two neighbours that differ, changes the sum', (t) => {
  const bytes = fill('text', 200);
  const sum = crc32(bytes);
  for (let bit = 0; bit < bytes.length * 8; bit++) if (crc32(flipBit(bytes, bit)) === sum) t.fail(`bit ${bit}`);
  for (let i = 0; i + 1 < bytes.length; i++) {
    const [a = 0, b = 0] = bytes.subarray(i, i + 2);
    const swapped = Uint8Array.from(bytes);
    swapped.set([b, a], i);
    t.is(crc32(swapped) === sum, a === b);
  }
});

test('a view into a larger buffer is summed as such', (t) => {
  const bytes = fill('text', 100);
  t.is(crc32(bytes.subarray(7, 60)), crc32(bytes.slice(7, 60)));
});
