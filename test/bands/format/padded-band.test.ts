/** Band files of version 2: their pinned vectors, what their length tells, and that all of them is proven. */
import test from 'ava';
import fc from 'fast-check';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { frameBand, hasValidCrc } from '../../../bands/format/band-file.ts';
import { fixedBytes, maxBandFileBytes, openBandHeader, paddedHeaderBytes } from '../../../bands/format/band-header.ts';
import { MAX_BAND_BYTES } from '../../../bands/format/geometry.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { checkPaddingChoice, isPadding, type Padding, paddedContentBytes } from '../../../bands/format/padding.ts';
import { CIPHER_NAMES, type CipherName } from '../../../bands/format/primitives.ts';
import { fill, flipBit, hex, isSame, sameBytes } from '../../support/bytes.ts';
import { isRefused } from './any-bytes.ts';
import {
  anyBand,
  anyCipher,
  bandOf,
  chunkOf,
  contextOf,
  opened,
  openedByChunks,
  openedWithPadding,
  SALT,
  SMALL_BAND,
  sealed,
} from './band-support.ts';
import { type BandVector, contextOfVector, plainOfVector } from './band-vectors.ts';
import { type FaultyFile, readVectors } from './vectors.ts';

const { vectors, intact, faults, padding, rounded } = readVectors<{
  vectors: BandVector[];
  /** Padded by less than any writer pads: a reader takes any length. */
  intact: BandVector;
  faults: FaultyFile[];
  padding: FaultyFile[];
  rounded: { bytes: number; pad: Padding; padded: number }[];
}>('padded-band');
const REFUSED = 'BAND_CORRUPT';
const FIXED = fixedBytes(SMALL_BAND);
const TWO_CONSTANTS = bandOf(chunkOf('constant', 'a'), chunkOf('constant', 'b'));

for (const [by, primitives] of Object.entries({ node: nodePrimitives, noble: noblePrimitives })) {
  for (const vector of vectors) {
    test(`${by}: the padded band file of the vector "${vector.name}" is written, and opened`, (t) => {
      const context = contextOfVector(vector, primitives);
      const plain = plainOfVector(vector);
      const salt = hex(vector.salt);
      const file = sealed(context, plain, salt);
      t.is(file.length, vector.fileBytes);
      sameBytes(t, file.subarray(0, paddedHeaderBytes(context.bandBytes)), hex(vector.head ?? ''), 'header');
      sameBytes(t, primitives.sha256(file), hex(vector.fileSha256), 'digest of the file');
      sameBytes(t, openedWithPadding(context, file, salt), plain, 'opened');
      sameBytes(t, openedByChunks(context, file, salt), plain, 'opened by chunks');
      t.true(hasValidCrc(primitives, file));
    });
  }

  test(`${by}: a padded band file with one fault is refused, whole and by chunks`, (t) => {
    const context = contextOfVector(intact, primitives);
    const salt = hex(intact.salt);
    sameBytes(t, openedWithPadding(context, hex(intact.file ?? ''), salt), plainOfVector(intact));
    for (const { name, file, error } of faults) {
      t.throws(() => opened(context, hex(file), salt), { name: 'TimebandError', code: error }, name);
      t.throws(() => openedByChunks(context, hex(file), salt), { name: 'TimebandError', code: error }, name);
    }
  });

  test(`${by}: a fault in the padding alone costs no data, and is found by those who vouch for the file`, (t) => {
    const context = contextOfVector(intact, primitives);
    const salt = hex(intact.salt);
    for (const { name, file, error } of padding) {
      sameBytes(t, opened(context, hex(file), salt), plainOfVector(intact), name);
      t.throws(() => openedWithPadding(context, hex(file), salt), { name: 'TimebandError', code: error }, name);
    }
  });
}

test('lengths are rounded as the vectors say', (t) => {
  for (const { bytes, pad, padded } of rounded) t.is(paddedContentBytes(bytes, pad), padded, `${bytes} by ${pad}`);
});

test('a rounded length is no shorter, at most a sixteenth longer by Padmé, never longer than an incompressible band, and rounds to itself', (t) => {
  const isSound = (bytes: number, pad: Padding): boolean => {
    const padded = paddedContentBytes(bytes, pad);
    const most = pad === 'padme' ? Math.max(4096, Math.ceil((bytes * 17) / 16)) : Math.max(bytes, 0) + pad;
    return padded >= bytes && padded <= Math.max(4096, most) && padded <= MAX_BAND_BYTES && paddedContentBytes(padded, pad) === padded;
  };
  const lengths = fc.oneof(fc.integer({ min: -8192, max: MAX_BAND_BYTES }), fc.integer({ min: 0, max: 100_000 }));
  fc.assert(fc.property(lengths, fc.constantFrom<Padding>('padme', 4096, 65_536, MAX_BAND_BYTES), isSound), { numRuns: 2000 });
  const lengthsByPadme = new Set(Array.from({ length: 40_000 }, (_, i) => paddedContentBytes(i * 50, 'padme')));
  t.true(lengthsByPadme.size < 230, `${lengthsByPadme.size} lengths up to 2 MB`);
});

test('padding is padme, or a power of two from 4 KiB to the band', (t) => {
  for (const pad of ['padme', 4096, 8192, SMALL_BAND]) t.true(isPadding(pad, SMALL_BAND), `${pad}`);
  for (const pad of ['', 'Padme', 'none', 0, 1, 2048, 4095, 4097, 12_288, 4096.5, 2 * SMALL_BAND, Number.NaN, -4096]) {
    t.false(isPadding(pad, SMALL_BAND), `${pad}`);
    t.throws(() => checkPaddingChoice(pad as Padding, SMALL_BAND), { code: 'USAGE' }, `${pad}`);
  }
  t.notThrows(() => checkPaddingChoice('padme', SMALL_BAND));
});

const anyWay: fc.Arbitrary<Padding> = fc.constantFrom<Padding>('padme', 4096, 65_536, SMALL_BAND);

for (const { by, primitives, numRuns } of [
  { by: 'node', primitives: nodePrimitives, numRuns: 60 },
  { by: 'noble', primitives: noblePrimitives, numRuns: 10 },
]) {
  test(`${by}: any band comes back from a padded file, whose length is a rounded one`, (t) => {
    const comesBack = (plain: Uint8Array, cipher: CipherName, pad: Padding): boolean => {
      const context = contextOf({ cipher, primitives, padding: pad });
      const file = sealed(context, plain);
      const content = file.length - FIXED;
      const isRounded = paddedContentBytes(content, pad) === content && file.length <= maxBandFileBytes(SMALL_BAND);
      return isRounded && isSame(openedWithPadding(context, file), plain) && isSame(openedByChunks(context, file), plain);
    };
    fc.assert(fc.property(anyBand(SMALL_BAND), anyCipher, anyWay, comesBack), { numRuns });
    t.pass();
  });
}

test('both implementations write the same padded file', (t) => {
  const writesSame = (plain: Uint8Array, cipher: CipherName, pad: Padding): boolean =>
    isSame(sealed(contextOf({ cipher, padding: pad }), plain), sealed(contextOf({ cipher, padding: pad, primitives: noblePrimitives }), plain));
  fc.assert(fc.property(anyBand(SMALL_BAND), anyCipher, anyWay, writesSame), { numRuns: 10 });
  t.pass();
});

test('a file says itself whether it is padded, whatever its volume writes', (t) => {
  const [plain, padded] = [contextOf(), contextOf({ padding: 'padme' })];
  sameBytes(t, openedWithPadding(padded, sealed(plain, TWO_CONSTANTS)), TWO_CONSTANTS);
  sameBytes(t, openedWithPadding(plain, sealed(padded, TWO_CONSTANTS)), TWO_CONSTANTS);
});

test('in a bucket as large as the band all files have one length, and no two sealings of a band anything in common', (t) => {
  const context = contextOf({ padding: SMALL_BAND });
  const bands = [new Uint8Array(SMALL_BAND), TWO_CONSTANTS, bandOf(chunkOf('random', 'a'), chunkOf('random', 'b'))];
  t.deepEqual(
    bands.map((band) => sealed(context, band).length),
    bands.map(() => maxBandFileBytes(SMALL_BAND)),
  );
  const [a, b] = ['1', '2'].map((label) => sealed(context, TWO_CONSTANTS, fill(label, 24))) as [Uint8Array, Uint8Array];
  for (const [from, to] of [
    [64, paddedHeaderBytes(SMALL_BAND)],
    [paddedHeaderBytes(SMALL_BAND), a.length - 4],
  ] as const) {
    const same = a.subarray(from, to).filter((byte, i) => byte === b[from + i]).length;
    t.true(same <= Math.max(4, (to - from) / 128), `${same} of ${to - from}`); // about 1 in 256 by chance
  }
});

test('another table under the same salt is sealed with another key', (t) => {
  const context = contextOf({ padding: SMALL_BAND });
  const [a, b] = [sealed(context, TWO_CONSTANTS), sealed(context, bandOf(chunkOf('text', 'a'), chunkOf('text', 'b')))];
  const words = (file: Uint8Array): Uint8Array => file.subarray(64, paddedHeaderBytes(SMALL_BAND) - 16);
  const differ = words(a).map((byte, i) => byte ^ (words(b)[i] ?? 0));
  t.true(differ.filter((byte) => byte === 0).length < 4, 'of 12; with one key, the upper bytes of all lengths would be equal');
});

for (const cipher of CIPHER_NAMES) {
  test(`${cipher}: a bit turned in any byte of a padded file is refused by the full read`, (t) => {
    const context = contextOf({ cipher, padding: 4096 });
    const file = sealed(context, TWO_CONSTANTS);
    for (let at = 0; at < file.length; at++) {
      const bad = flipBit(file, at * 8 + (at % 8));
      const isInCrc = at >= file.length - 4;
      if (!isInCrc && !isRefused(() => openedWithPadding(context, bad), REFUSED)) t.fail(`byte ${at}`);
      if (hasValidCrc(nodePrimitives, bad)) t.fail(`byte ${at}, checksum`);
    }
    for (const cut of [0, 7, 64, 91, 92, file.length - 1])
      t.true(
        isRefused(() => openedWithPadding(context, file.slice(0, cut)), REFUSED),
        `${cut} bytes`,
      );
    t.pass();
  });
}

test('magic, salt, checksum and padding are mended from the rest; the commitment cannot be', (t) => {
  const context = contextOf({ padding: 65_536 });
  const file = sealed(context, TWO_CONSTANTS);
  const { padding: place } = openBandHeader(context, file, { salt: SALT, fileBytes: file.length });
  for (const at of [0, 7, 8, 31, place?.offset ?? 0, file.length - 5, file.length - 1]) {
    const bad = Uint8Array.from(file);
    bad.fill(0xff, at, Math.min(at + 5, at < 32 ? 32 : file.length));
    frameBand(context, bad, SALT);
    sameBytes(t, bad, file, `from byte ${at}`);
  }
  for (const at of [32, 63, 64, 91]) {
    const bad = flipBit(file, at * 8);
    frameBand(context, bad, SALT);
    t.true(
      isRefused(() => opened(context, bad), REFUSED),
      `byte ${at}`,
    );
  }
});
