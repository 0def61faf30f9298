import test from 'ava';
import fc from 'fast-check';
import { bandCountOf, pageCountOf } from '../../../bands/format/geometry.ts';
import { ID_BYTES } from '../../../bands/format/keys.ts';
import { DIGEST_BYTES, type Manifest, manifestCodec } from '../../../bands/format/manifest.ts';
import { formatSessionId } from '../../../bands/format/session-id.ts';
import { fill } from '../../support/bytes.ts';
import { anyBytes, anyPadding, anyText, anyTime, testJsonCodec } from './json-suite.ts';
import { type FaultyText, readVectors } from './vectors.ts';

const START = 1_795_255_200_123;

const sample: Manifest = {
  sessionId: '20261121T100000.123Z',
  volumeId: fill('volume', ID_BYTES),
  sizeBytes: 512 * 2_097_152 + 512,
  bandBytes: 2_097_152,
  startedMs: START,
  finishedMs: START + 4321,
  base: { sessionId: '20261120T100000.000Z', manifestDigest: fill('base', DIGEST_BYTES) },
  pageDigests: [fill('page 0', DIGEST_BYTES), fill('page 1', DIGEST_BYTES)],
  bitmapDigest: fill('bitmap', DIGEST_BYTES),
  source: { kind: 'image', location: '/images/mail.img', host: 'host' },
  totals: { bands: 513, zeroBands: 12, changedBands: 3, storedBytes: 5_000_000_000, writtenBytes: 30_000 },
  program: 'timeband 0.1.0',
  padding: undefined,
  domainId: undefined,
};

const sessionIds = fc.integer({ min: Date.UTC(2000, 0), max: Date.UTC(9999, 0) }).map(formatSessionId);
const baseIds = fc.integer({ min: 0, max: Date.UTC(1999, 0) }).map(formatSessionId);
const counts = fc.nat(Number.MAX_SAFE_INTEGER);

/** Manifests whose counts fit their size, of up to three pages. */
const manifests: fc.Arbitrary<Manifest> = fc
  .record({ power: fc.integer({ min: 18, max: 26 }), bands: fc.integer({ min: 1, max: 1200 }), missing: fc.nat(511) })
  .chain(({ power, bands, missing }) => {
    const bandBytes = 2 ** power;
    const digest = anyBytes(DIGEST_BYTES);
    const pages = pageCountOf(bands);
    return fc.record({
      sessionId: sessionIds,
      volumeId: anyBytes(ID_BYTES),
      sizeBytes: fc.constant(bands * bandBytes - missing * 512),
      bandBytes: fc.constant(bandBytes),
      startedMs: anyTime,
      finishedMs: anyTime,
      base: fc.option(fc.record({ sessionId: baseIds, manifestDigest: digest }), { nil: undefined }),
      pageDigests: fc.array(digest, { minLength: pages, maxLength: pages }),
      bitmapDigest: digest,
      source: fc.record({ kind: anyText, location: anyText, host: anyText }),
      totals: fc.record({
        bands: fc.constant(bands),
        zeroBands: fc.nat(bands),
        changedBands: fc.nat(bands),
        storedBytes: counts,
        writtenBytes: counts,
      }),
      program: anyText,
      padding: anyPadding,
      domainId: fc.option(anyBytes(ID_BYTES), { nil: undefined }),
    });
  });

const vectors = readVectors<Record<'manifest' | 'manifestInDomain', { text: string; faults: FaultyText[] }>>('documents');

testJsonCodec<Manifest>('manifest', { codec: manifestCodec, ...vectors.manifest, value: sample, values: manifests });

testJsonCodec<Manifest>('manifest in a key domain', {
  codec: manifestCodec,
  ...vectors.manifestInDomain,
  value: { ...sample, domainId: fill('domain', ID_BYTES) },
  values: manifests,
});

test('a first session has no base, and that is written down', (t) => {
  const first = { ...sample, base: undefined };
  t.deepEqual(manifestCodec.decode(manifestCodec.encode(first)), first);
  t.true(new TextDecoder().decode(manifestCodec.encode(first)).includes('"base":null'));
});

test('the counts of a manifest must be those of its size, at every boundary', (t) => {
  for (const [sizeBytes, pages] of [
    [512, 1],
    [2 ** 21, 1],
    [512 * 2 ** 21, 1],
    [512 * 2 ** 21 + 512, 2],
    [1024 * 2 ** 21, 2],
  ] as const) {
    const bands = bandCountOf(sizeBytes, 2 ** 21);
    const totals = { ...sample.totals, bands, zeroBands: bands, changedBands: 0 };
    const withPages = (count: number): Manifest => ({
      ...sample,
      sizeBytes,
      totals,
      pageDigests: Array.from({ length: count }, (_, i) => fill(`${i}`, DIGEST_BYTES)),
    });
    t.notThrows(() => manifestCodec.decode(manifestCodec.encode(withPages(pages))), `${sizeBytes} bytes`);
    for (const wrong of [pages - 1, pages + 1]) {
      t.throws(
        () => manifestCodec.decode(manifestCodec.encode(withPages(wrong))),
        { code: 'RECORD_CORRUPT' },
        `${sizeBytes} bytes in ${wrong} pages`,
      );
    }
  }
});

test('the largest size that a number holds asks for its pages before anything is made of it', (t) => {
  const huge = { ...sample, sizeBytes: Number.MAX_SAFE_INTEGER - 511, bandBytes: 2 ** 18 };
  t.throws(() => manifestCodec.decode(manifestCodec.encode(huge)), { code: 'RECORD_CORRUPT' });
});
