/** What a session takes: the least is never more than what it takes, so no sync is refused that would fit. */
import test from 'ava';
import fc from 'fast-check';
import { bandCountOf } from '../../bands/format/geometry.ts';
import { estimateSpace, type SpaceInput, sessionNeed } from '../../src/sync/space-estimate.ts';

const BAND = 262_144;
const TOTALS = { bands: 1000, zeroBands: 200, changedBands: 10, storedBytes: 80_000_000, writtenBytes: 1_000_000 };
const INPUT: SpaceInput = {
  sizeBytes: 1000 * BAND,
  bandBytes: BAND,
  padding: undefined,
  base: undefined,
  isForced: false,
  candidates: undefined,
  claimed: undefined,
  data: undefined,
};
const BASE = { sizeBytes: 1000 * BAND, totals: TOTALS };

test('of a first session the index is certain; all its data may have to be stored', (t) => {
  const whole = estimateSpace(INPUT);
  t.true(whole.least.bytes > 1000 * 64 && whole.least.bytes < 100_000);
  t.is(whole.least.inodes, 3 + 2 + 2, 'folders, records, two index pages');
  t.true(whole.likely.bytes > 1000 * BAND);
  t.is(whole.likely.inodes, 3 + 2 + 2 + 1000);
  const data = [
    { offset: 0, length: 1000 },
    { offset: 2000, length: BAND },
    { offset: 500 * BAND, length: 2 * BAND },
  ];
  const sparse = estimateSpace({ ...INPUT, data });
  t.deepEqual(sparse.least, whole.least);
  t.is(sparse.likely.inodes, 3 + 2 + 2 + 4, 'bands that hold data, each once');
  t.true(sparse.likely.bytes > 3 * BAND && sparse.likely.bytes < 4 * BAND);
});

test('where nothing may have changed, nothing but the folder is certain', (t) => {
  const folders = { bytes: 0, inodes: 3 };
  t.deepEqual(estimateSpace({ ...INPUT, base: BASE }).least, folders, 'the source does not know');
  t.deepEqual(estimateSpace({ ...INPUT, base: BASE, claimed: 900, candidates: 900 }).least, folders, 'it may name too much');
  t.deepEqual(estimateSpace({ ...INPUT, base: BASE, claimed: 0, candidates: 16 }), { least: folders, likely: folders });
});

test('bands that the source names are taken to be as small as those of the base', (t) => {
  const { likely } = estimateSpace({ ...INPUT, base: BASE, claimed: 100, candidates: 116 });
  t.is(likely.inodes, 3 + 2 + 2 + 100);
  t.true(likely.bytes > 100 * 100_000 && likely.bytes < 100 * 110_000);
  const unknown = estimateSpace({ ...INPUT, base: BASE }).likely;
  t.is(unknown.inodes, 3 + 2, 'nothing is said of bands that nobody names');
});

test('the least is never more than what the session takes', (t) => {
  const base = fc.record({ bands: fc.nat(3000), zeros: fc.nat(3000), each: fc.nat(BAND) }).map(({ bands, zeros, each }) => {
    const zeroBands = Math.min(bands, zeros);
    return { sizeBytes: bands * BAND, totals: { ...TOTALS, bands, zeroBands, storedBytes: (bands - zeroBands) * each } };
  });
  const sync = fc.record({
    base: fc.option(base, { nil: undefined }),
    bands: fc.integer({ min: 1, max: 3000 }),
    read: fc.nat(3000),
    isForced: fc.boolean(),
    found: fc.nat(3000),
  });
  fc.assert(
    fc.property(sync, ({ base: from, bands, read, isForced, found }) => {
      const candidates = from === undefined ? undefined : Math.min(read, bands);
      const input: SpaceInput = { ...INPUT, sizeBytes: bands * BAND, base: from, candidates, claimed: candidates, isForced };
      const stored = Math.min(found, candidates ?? bands);
      const { least } = estimateSpace(input);
      const taken = sessionNeed(input, { bands: stored, bytes: stored });
      t.is(bandCountOf(input.sizeBytes, BAND), bands);
      return least.inodes <= taken.inodes && least.bytes <= taken.bytes;
    }),
  );
});
