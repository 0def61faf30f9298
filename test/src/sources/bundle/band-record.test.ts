/** The record of a bundle's band files: one form, bound to its session, and what a comparison makes of it. */
import test from 'ava';
import {
  type BandRecord,
  type BandStamp,
  compareBands,
  decodeBandRecord,
  encodeBandRecord,
  suspectFrom,
} from '../../../../src/sources/bundle/band-record.ts';
import { lockHolder } from '../../../../src/sources/bundle/token-lock.ts';
import { fill, flipBit, isSame } from '../../../support/bytes.ts';

const TOKEN = { repositoryId: '11'.repeat(16), volumeId: '22'.repeat(16), commitId: '33'.repeat(16) };
const SECOND = 1_000_000_000n;

function stamp(index: number, change: Partial<BandStamp> = {}): BandStamp {
  return { index, size: 8_388_608, mtimeNs: 100n * SECOND + 7n, ctimeNs: 101n * SECOND, ino: 1000n + BigInt(index), ...change };
}

function record(bands: readonly BandStamp[], change: Partial<BandRecord> = {}): BandRecord {
  return { plistDigest: fill('plist', 32), deviceId: 0xfff0_0000_0001n, folderId: 5n, suspectFromNs: 200n * SECOND, bands, ...change };
}

test('a record comes back as it was, for 30,000 bands, too', (t) => {
  for (const count of [0, 1, 30_000]) {
    const one = record(Array.from({ length: count }, (_, i) => stamp(i * 3, { mtimeNs: -5n, ino: 2n ** 64n - 1n })));
    const bytes = encodeBandRecord(one, TOKEN);
    const back = decodeBandRecord(bytes, TOKEN);
    if (typeof back === 'string') throw new Error(back);
    t.true(isSame(encodeBandRecord(back, TOKEN), bytes));
    t.is(back.bands.length, count);
    t.deepEqual(back.bands.at(-1), one.bands.at(-1));
  }
});

test('a record of another session, volume or repository is foreign; one with any bit turned is damaged', (t) => {
  const bytes = encodeBandRecord(record([stamp(1), stamp(2)]), TOKEN);
  for (const field of ['repositoryId', 'volumeId', 'commitId'] as const)
    t.is(decodeBandRecord(bytes, { ...TOKEN, [field]: '44'.repeat(16) }), 'foreign');
  for (let bit = 0; bit < bytes.length * 8; bit += 5) t.is(decodeBandRecord(flipBit(bytes, bit), TOKEN), 'damaged');
  for (const length of [0, 7, 120, 151, 152, bytes.length - 1]) t.is(decodeBandRecord(bytes.subarray(0, length), TOKEN), 'damaged');
});

test('what differs has changed: size, times, inode, a new band, a deleted one; the rest has not', (t) => {
  const then = record([0, 1, 2, 3, 4, 5, 6].map((i) => stamp(i)));
  const now = record([
    stamp(0),
    stamp(1, { size: 512 }),
    stamp(2, { mtimeNs: 99n * SECOND }),
    stamp(3, { ctimeNs: 102n * SECOND }),
    stamp(4, { ino: 7n, ctimeNs: 1n }),
    stamp(6),
    stamp(9),
  ]);
  t.deepEqual(compareBands(then, now), { changed: [1, 2, 3, 4, 5, 9] });
  t.deepEqual(compareBands(then, then), { changed: [] });
});

test('times from the two seconds before the look, or after it, are not believed', (t) => {
  const bands = [stamp(0), stamp(1, { mtimeNs: 198n * SECOND }), stamp(2, { ctimeNs: 198n * SECOND }), stamp(3, { mtimeNs: 900n * SECOND })];
  const suspectFromNs = suspectFrom(200n * SECOND, bands, true);
  t.is(suspectFromNs, 198n * SECOND);
  t.deepEqual(compareBands(record(bands, { suspectFromNs }), record(bands)), { changed: [1, 2, 3] });
});

test('where the clock of the file system may be another, its newest time counts instead', (t) => {
  const bands = [stamp(0), stamp(1, { mtimeNs: 110n * SECOND })];
  t.is(suspectFrom(200n * SECOND, bands, false), 108n * SECOND, 'a server that is behind');
  t.is(suspectFrom(50n * SECOND, bands, false), 48n * SECOND, 'one that is ahead');
});

test('another property list, device or folder, or times that went back: nothing is known', (t) => {
  const then = record([stamp(0)]);
  for (const now of [
    record([stamp(0)], { plistDigest: fill('other', 32) }),
    record([stamp(0)], { deviceId: 1n }),
    record([stamp(0)], { folderId: 1n }),
    record([stamp(0, { ctimeNs: 1n })]),
  ])
    t.true('reason' in compareBands(then, now));
});

test('the holder of a lock is found in /proc/locks', (t) => {
  const text =
    '1: POSIX  ADVISORY  READ 11 fe:01:1055 128 128\n2: FLOCK  ADVISORY  READ 12 fe:01:77 0 EOF\n3: FLOCK  ADVISORY  WRITE 13 fe:01:77 0 EOF\n';
  t.is(lockHolder(text, 77), 13);
  t.is(lockHolder(text, 78), undefined);
});
