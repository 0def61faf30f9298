import test from 'ava';
import fc from 'fast-check';
import { Bitmap } from '../../../bands/format/bitmap.ts';
import { hex, isSame, sameBytes } from '../../support/bytes.ts';
import { isRefused, takesAnyBytes } from './any-bytes.ts';

type Step = { readonly set: number } | { readonly from: number; readonly to: number } | { readonly or: readonly number[]; readonly size: number };

const MOST = 200;
const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    fc.record({ set: fc.nat(MOST) }),
    fc.record({ from: fc.nat(MOST), to: fc.nat(MOST + 50) }),
    fc.record({ or: fc.array(fc.nat(MOST), { maxLength: 20 }), size: fc.nat(MOST) }),
  ),
  { maxLength: 8 },
);

function bitmapOf(size: number, bits: Iterable<number>): Bitmap {
  const bitmap = new Bitmap(size);
  for (const bit of bits) if (bit < size) bitmap.set(bit);
  return bitmap;
}

function apply(bitmap: Bitmap, step: Step): void {
  if ('set' in step) {
    if (step.set < bitmap.size) bitmap.set(step.set);
  } else if ('from' in step) bitmap.setRange(step.from, step.to);
  else bitmap.or(bitmapOf(step.size, step.or));
}

function applyToSet(set: Set<number>, size: number, step: Step): void {
  const add = (bit: number): unknown => bit < size && set.add(bit);
  if ('set' in step) add(step.set);
  else if ('from' in step) for (let i = step.from; i < step.to; i++) add(i);
  else for (const bit of step.or) if (bit < step.size) add(bit);
}

test('a bitmap behaves as a set of numbers below its size', (t) => {
  const behaves = (size: number, list: readonly Step[]): boolean => {
    const bitmap = new Bitmap(size);
    const model = new Set<number>();
    for (const step of list) {
      apply(bitmap, step);
      applyToSet(model, size, step);
    }
    const sorted = [...model].sort((a, b) => a - b);
    const hasRight = Array.from({ length: MOST + 20 }, (_, i) => bitmap.has(i) === model.has(i)).every(Boolean);
    return hasRight && bitmap.count() === model.size && JSON.stringify([...bitmap]) === JSON.stringify(sorted);
  };
  fc.assert(fc.property(fc.nat(MOST), steps, behaves), { numRuns: 500 });
  t.pass();
});

test('bit 0 is the lowest of the first byte', (t) => {
  sameBytes(t, bitmapOf(17, [0, 9, 16]).encode(), hex('010201'));
  sameBytes(t, new Bitmap(0).encode(), new Uint8Array(0));
  t.is(new Bitmap(8).encode().length, 1);
  t.is(new Bitmap(9).encode().length, 2);
});

test('a bitmap comes back from its bytes', (t) => {
  const comesBack = (size: number, bits: number[]): boolean => {
    const bitmap = bitmapOf(size, bits);
    const back = Bitmap.decode(Uint8Array.from(bitmap.encode()), size);
    return back.size === size && JSON.stringify([...back]) === JSON.stringify([...bitmap]) && isSame(back.encode(), bitmap.encode());
  };
  fc.assert(fc.property(fc.nat(MOST), fc.array(fc.nat(MOST)), comesBack));
  t.pass();
});

test('bytes of another length, and a bit beyond the size, are refused', (t) => {
  for (const [bytes, size] of [
    ['', 1],
    ['00', 0],
    ['0000', 8],
    ['00', 9],
    ['02', 1],
    ['80', 7],
    ['ff01', 8],
    ['ff02', 9],
    ['0080', 15],
  ] as const) {
    t.true(
      isRefused(() => Bitmap.decode(hex(bytes), size), 'RECORD_CORRUPT'),
      `${bytes} as ${size} bits`,
    );
  }
  for (const [bytes, size] of [
    ['', 0],
    ['01', 1],
    ['7f', 7],
    ['ff', 8],
    ['ff01', 9],
  ] as const)
    t.is(Bitmap.decode(hex(bytes), size).count(), size);
});

test('any bytes are refused or a bitmap that encodes to them', (t) => {
  for (const size of [0, 1, 8, 19, 2000]) {
    const sample = bitmapOf(size, [0, 3, 18, 999, 1999]).encode();
    takesAnyBytes(
      t,
      { decode: (bytes) => Bitmap.decode(bytes, size), encode: (bitmap) => bitmap.encode(), code: 'RECORD_CORRUPT', samples: [sample] },
      200,
    );
  }
});

test('a bit beyond the size cannot be set and is not there', (t) => {
  const bitmap = new Bitmap(9);
  t.throws(() => bitmap.set(9), { instanceOf: RangeError });
  bitmap.setRange(0, 100);
  t.false(bitmap.has(9));
  t.is(bitmap.count(), 9);
  sameBytes(t, bitmap.encode(), hex('ff01'));
});

test('the union takes over no bit beyond its own size and leaves the other alone', (t) => {
  const [small, large] = [bitmapOf(4, [1]), bitmapOf(100, [0, 3, 4, 99])];
  small.or(large);
  t.deepEqual([...small], [0, 1, 3]);
  t.deepEqual([...large], [0, 3, 4, 99]);
  large.or(small);
  t.deepEqual([...large], [0, 1, 3, 4, 99]);
});
