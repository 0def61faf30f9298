import test from 'ava';
import fc from 'fast-check';
import {
  type BandRange,
  bandCountOf,
  bandLengthOf,
  bandRanges,
  CHUNK_BYTES,
  checkVolumeSize,
  chunksPerBand,
  DEFAULT_BAND_BYTES,
  ENTRIES_PER_PAGE,
  entriesInPage,
  isBandBytes,
  MAX_BAND_BYTES,
  MIN_BAND_BYTES,
  mergeRanges,
  pageCountOf,
} from '../../../bands/format/geometry.ts';

const bandSizes = fc.integer({ min: 18, max: 26 }).map((power) => 2 ** power);

test('a band size is a power of two from 256 KiB to 64 MiB', (t) => {
  const powers = Array.from({ length: 60 }, (_, power) => 2 ** power).filter(isBandBytes);
  t.deepEqual(powers, [262_144, 524_288, 1_048_576, 2_097_152, 4_194_304, 8_388_608, 16_777_216, 33_554_432, 67_108_864]);
  for (const no of [
    0,
    -262_144,
    262_143,
    262_145,
    393_216,
    3 * 2 ** 20,
    MAX_BAND_BYTES + 1,
    2 ** 21 + 0.5,
    2 ** 53,
    Number.NaN,
    Number.POSITIVE_INFINITY,
  ]) {
    t.false(isBandBytes(no), `${no}`);
  }
  t.true(isBandBytes(DEFAULT_BAND_BYTES));
});

test('a band holds 2 to 512 whole chunks', (t) => {
  t.is(chunksPerBand(MIN_BAND_BYTES), 2);
  t.is(chunksPerBand(DEFAULT_BAND_BYTES), 16);
  t.is(chunksPerBand(MAX_BAND_BYTES), 512);
  t.is(CHUNK_BYTES, 128 * 1024);
});

test('bands and pages are counted right at their boundaries', (t) => {
  const band = DEFAULT_BAND_BYTES;
  for (const [size, bands] of [
    [0, 0],
    [512, 1],
    [band - 512, 1],
    [band, 1],
    [band + 512, 2],
    [2 * band, 2],
    [2 ** 52, 2 ** 31],
  ] as const) {
    t.is(bandCountOf(size, band), bands, `${size} bytes`);
  }
  for (const [bands, pages] of [
    [0, 0],
    [1, 1],
    [511, 1],
    [512, 1],
    [513, 2],
    [1024, 2],
    [1025, 3],
  ] as const)
    t.is(pageCountOf(bands), pages, `${bands} bands`);
});

test('the entries of all pages are the bands, and no page beyond them has any', (t) => {
  fc.assert(
    fc.property(fc.nat(5000), (bands) => {
      const pages = pageCountOf(bands);
      let sum = 0;
      for (let page = 0; page < pages; page++) {
        const entries = entriesInPage(page, bands);
        if (entries < 1 || entries > ENTRIES_PER_PAGE || (page < pages - 1 && entries !== ENTRIES_PER_PAGE)) return false;
        sum += entries;
      }
      return sum === bands && entriesInPage(pages, bands) === 0 && entriesInPage(pages + 7, bands) === 0;
    }),
  );
  t.pass();
});

test('the lengths of all bands add up to the volume', (t) => {
  const addsUp = (sectors: number, bandBytes: number): boolean => {
    const size = sectors * 512;
    const count = bandCountOf(size, bandBytes);
    const last = count === 0 ? 0 : bandLengthOf(count - 1, size, bandBytes);
    const isLastRight = count === 0 || (last > 0 && last <= bandBytes && (count - 1) * bandBytes + last === size);
    const isFirstRight = count < 2 || bandLengthOf(0, size, bandBytes) === bandBytes;
    return isLastRight && isFirstRight && bandLengthOf(count, size, bandBytes) === 0;
  };
  fc.assert(fc.property(fc.nat(2 ** 43), bandSizes, addsUp));
  t.pass();
});

test('the band ranges of any byte range cover it exactly, in order, each within its band', (t) => {
  const covers = (offset: number, length: number, bandBytes: number): boolean => {
    let position = 0;
    for (const range of bandRanges(offset, length, bandBytes)) {
      const isInBand = range.start >= 0 && range.length > 0 && range.start + range.length <= bandBytes;
      if (!isInBand || range.position !== position || range.bandIndex * bandBytes + range.start !== offset + position) return false;
      position += range.length;
    }
    return position === length;
  };
  const offsets = fc.oneof(
    fc.nat(2 ** 28),
    fc.nat(2 ** 52),
    fc.integer({ min: 0, max: 40 }).map((n) => n * MIN_BAND_BYTES),
  );
  fc.assert(fc.property(offsets, fc.nat(2 ** 25), bandSizes, covers), { numRuns: 500 });
  t.pass();
});

test('band ranges at the boundaries are the expected ones', (t) => {
  const band = MIN_BAND_BYTES;
  const walk = (offset: number, length: number): BandRange[] => [...bandRanges(offset, length, band)];
  t.deepEqual(walk(0, 0), []);
  t.deepEqual(walk(band, 0), []);
  t.deepEqual(walk(0, band), [{ bandIndex: 0, start: 0, length: band, position: 0 }]);
  t.deepEqual(walk(band - 1, 2), [
    { bandIndex: 0, start: band - 1, length: 1, position: 0 },
    { bandIndex: 1, start: 0, length: 1, position: 1 },
  ]);
  t.deepEqual(walk(band, 1), [{ bandIndex: 1, start: 0, length: 1, position: 0 }]);
});

test('merged ranges hold the same bytes as the ranges, sorted and apart', (t) => {
  const ranges = fc.array(fc.record({ offset: fc.nat(60), length: fc.nat(10) }), { maxLength: 12 });
  const bytesOf = (list: readonly { offset: number; length: number }[]): Set<number> =>
    new Set(list.flatMap(({ offset, length }) => Array.from({ length }, (_, i) => offset + i)));
  const isMerged = (list: { offset: number; length: number }[]): boolean => {
    const sorted = list.toSorted((a, b) => a.offset - b.offset);
    const before = structuredClone(sorted);
    const merged = mergeRanges(sorted);
    const isApart = merged.every(
      ({ offset, length }, i) => length > 0 && (i === 0 || offset > (merged[i - 1]?.offset ?? 0) + (merged[i - 1]?.length ?? 0)),
    );
    const [want, got] = [bytesOf(list), bytesOf(merged)];
    return isApart && want.size === got.size && [...want].every((byte) => got.has(byte)) && JSON.stringify(sorted) === JSON.stringify(before);
  };
  fc.assert(fc.property(ranges, isMerged), { numRuns: 500 });
  t.deepEqual(mergeRanges([]), []);
  t.deepEqual(mergeRanges(new Set([{ offset: 5, length: 0 }])), []);
});

test('a volume is a positive multiple of 512 bytes that a number holds exactly', (t) => {
  for (const size of [512, 1024, 2 ** 40, Number.MAX_SAFE_INTEGER - 511]) t.notThrows(() => checkVolumeSize(size, 'disk.img'), `${size}`);
  for (const size of [0, -512, 1, 511, 513, 512.5, 2 ** 53, 2 ** 60, Number.NaN, Number.POSITIVE_INFINITY]) {
    t.throws(() => checkVolumeSize(size, 'disk.img'), { name: 'TimebandError', code: 'SOURCE_INVALID' }, `${size}`);
  }
});
