import test from 'ava';
import fc from 'fast-check';
import { bandHeaderBytes, CRC_BYTES, maxBandFileBytes, SALT_BYTES } from '../../../bands/format/band-header.ts';
import { DEFAULT_BAND_BYTES, ENTRIES_PER_PAGE } from '../../../bands/format/geometry.ts';
import {
  decodePage,
  ENTRY_BYTES,
  entryCount,
  isSameContent,
  isZeroEntry,
  type PageEntries,
  readEntry,
  type StoredBand,
  writeEntry,
} from '../../../bands/format/index-page.ts';
import { fill, hex, isSame, sameBytes } from '../../support/bytes.ts';
import { isRefused, takesAnyBytes } from './any-bytes.ts';
import { anyBytes } from './json-suite.ts';

const bandBytes = DEFAULT_BAND_BYTES;
const LEAST = bandHeaderBytes(bandBytes) + CRC_BYTES;
const MOST = maxBandFileBytes(bandBytes);

const storedBands: fc.Arbitrary<StoredBand> = fc.record({
  salt: anyBytes(SALT_BYTES),
  fileBytes: fc.integer({ min: LEAST, max: MOST }),
  fingerprint: anyBytes(16),
  digest: anyBytes(32),
});
const pages = fc.array(fc.option(storedBands, { nil: undefined }), { maxLength: 20 });

function pageOf(bands: readonly (StoredBand | undefined)[]): PageEntries {
  const entries = new Uint8Array(bands.length * ENTRY_BYTES);
  for (const [i, band] of bands.entries()) writeEntry(entries, i, band);
  return entries;
}

const band: StoredBand = { salt: fill('salt', SALT_BYTES), fileBytes: 0x0001_0203, fingerprint: fill('fingerprint', 16), digest: fill('digest', 32) };

test('an entry is salt, length, flags, fingerprint and digest; a band of zeros is all zeros', (t) => {
  const entries = pageOf([undefined, band]);
  sameBytes(t, entries.subarray(0, 80), new Uint8Array(80));
  sameBytes(t, entries.subarray(80), Buffer.concat([band.salt, hex('03020100'), hex('01000000'), band.fingerprint, band.digest]));
});

test('any page comes back, entry by entry, and decodes to itself', (t) => {
  const comesBack = (bands: readonly (StoredBand | undefined)[]): boolean => {
    const entries = pageOf(bands);
    const decoded = decodePage(Uint8Array.from(entries), { entries: bands.length, bandBytes });
    const isEach = bands.every((one, i) => {
      const read = readEntry(decoded, i);
      if (one === undefined || read === undefined) return one === read && isZeroEntry(decoded, i);
      return !isZeroEntry(decoded, i) && isSame(read.salt, one.salt) && isSame(read.digest, one.digest) && read.fileBytes === one.fileBytes;
    });
    return isEach && entryCount(decoded) === bands.length && isSame(decoded, entries);
  };
  fc.assert(fc.property(pages, comesBack));
  t.pass();
});

test('writing an entry replaces all of it and nothing else', (t) => {
  const entries = pageOf([band, band, band]);
  writeEntry(entries, 1, undefined);
  sameBytes(t, entries, pageOf([band, undefined, band]));
  writeEntry(entries, 1, band);
  sameBytes(t, entries, pageOf([band, band, band]));
});

test('an entry beyond the page is a zero band: a shorter volume had none there', (t) => {
  const entries = pageOf([band]);
  for (const i of [1, 2, 511, 1e9]) {
    t.true(isZeroEntry(entries, i));
    t.is(readEntry(entries, i), undefined);
  }
});

test('content is the same if both are zero or the digests agree, whatever file holds it', (t) => {
  const elsewhere: StoredBand = { ...band, salt: fill('salt 2', SALT_BYTES), fileBytes: LEAST };
  const other: StoredBand = { ...band, digest: fill('digest 2', 32) };
  const same = (a: StoredBand | undefined, b: StoredBand | undefined): boolean => isSameContent(pageOf([band, a]), pageOf([undefined, b]), 1);
  t.true(same(undefined, undefined));
  t.true(same(band, elsewhere));
  t.false(same(band, other));
  t.false(same(band, undefined));
  t.false(same(undefined, band));
  t.true(isSameContent(pageOf([]), pageOf([undefined]), 0));
  t.false(isSameContent(pageOf([]), pageOf([band]), 0));
});

test('every byte of the digest counts for the content', (t) => {
  for (let i = 0; i < 32; i++) {
    const digest = Uint8Array.from(band.digest);
    digest[i] = (digest[i] ?? 0) ^ 1;
    t.false(isSameContent(pageOf([band]), pageOf([{ ...band, digest }]), 0));
  }
});

test('a page of another number of entries is refused', (t) => {
  const entries = pageOf(Array.from({ length: ENTRIES_PER_PAGE }, () => band));
  t.notThrows(() => decodePage(entries, { entries: ENTRIES_PER_PAGE, bandBytes }));
  for (const [bytes, count] of [
    [entries, 511],
    [entries, 513],
    [entries.subarray(1), 512],
    [new Uint8Array(0), 1],
    [new Uint8Array(80), 0],
  ] as const) {
    t.true(isRefused(() => decodePage(bytes, { entries: count, bandBytes }), 'RECORD_CORRUPT'));
  }
});

test('a file length that no band file of this size has is refused, and the bounds are taken', (t) => {
  const decode = (fileBytes: number): unknown => decodePage(pageOf([{ ...band, fileBytes }]), { entries: 1, bandBytes });
  for (const fileBytes of [LEAST, LEAST + 1, MOST]) t.notThrows(() => decode(fileBytes));
  for (const fileBytes of [0, 1, LEAST - 1, MOST + 1, 2 ** 31, 2 ** 32 - 1])
    t.true(
      isRefused(() => decode(fileBytes), 'RECORD_CORRUPT'),
      `${fileBytes}`,
    );
});

test('an unknown flag, and a zero entry that holds anything, are refused', (t) => {
  for (const flags of [2, 3, 0x0100_0001, 0x8000_0000, 0x8000_0001]) {
    const entries = pageOf([band]);
    new DataView(entries.buffer).setUint32(28, flags, true);
    t.true(
      isRefused(() => decodePage(entries, { entries: 1, bandBytes }), 'RECORD_CORRUPT'),
      `${flags}`,
    );
  }
  for (let at = 0; at < ENTRY_BYTES; at++) {
    const entries = pageOf([undefined]);
    entries[at] = 1; // at 28 this makes a stored band of length 0
    t.true(
      isRefused(() => decodePage(entries, { entries: 1, bandBytes }), 'RECORD_CORRUPT'),
      `byte ${at}`,
    );
  }
});

test('any bytes are refused or a page', (t) => {
  const shape = { entries: 3, bandBytes };
  const samples = [pageOf([band, undefined, band]), new Uint8Array(3 * ENTRY_BYTES)];
  takesAnyBytes(t, { decode: (bytes) => decodePage(bytes, shape), encode: (entries) => entries, code: 'RECORD_CORRUPT', samples }, 1000);
});
