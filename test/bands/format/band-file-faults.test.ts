/** The band file's pinned vectors, and files that are sound but not the ones that are asked for. */
import test from 'ava';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { hasValidCrc, openChunk } from '../../../bands/format/band-file.ts';
import { openBandHeader } from '../../../bands/format/band-header.ts';
import { CHUNK_BYTES } from '../../../bands/format/geometry.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { CIPHER_NAMES } from '../../../bands/format/primitives.ts';
import { fill, hex, sameBytes } from '../../support/bytes.ts';
import { isRefused } from './any-bytes.ts';
import { bandOf, chunkOf, contextOf, opened, openedByChunks, SALT, sealed } from './band-support.ts';
import { type BandVector, contextOfVector, plainOfVector } from './band-vectors.ts';
import { type FaultyFile, readVectors } from './vectors.ts';

interface FaultyTable {
  readonly name: string;
  readonly head: string;
  readonly fileBytes: number;
  readonly error: string;
}

const content = readVectors<{ vectors: BandVector[]; intact: BandVector; faults: FaultyFile[]; tables: FaultyTable[] }>('band-file');
const { vectors, intact, faults, tables } = content;
const BOTH = Object.entries({ node: nodePrimitives, noble: noblePrimitives });

for (const [by, primitives] of BOTH) {
  for (const vector of [...vectors, intact]) {
    test(`${by}: the band file of the vector "${vector.name}" is written, and opened`, (t) => {
      const context = contextOfVector(vector, primitives);
      const plain = plainOfVector(vector);
      const file = sealed(context, plain, hex(vector.salt));
      t.is(file.length, vector.fileBytes);
      const head = hex(vector.file ?? vector.head ?? '');
      sameBytes(t, file.subarray(0, head.length), head, 'file');
      sameBytes(t, primitives.sha256(file), hex(vector.fileSha256), 'digest of the file');
      sameBytes(t, opened(context, file, hex(vector.salt)), plain, 'opened');
      t.true(hasValidCrc(primitives, file));
    });
  }

  test(`${by}: a band file with one fault is refused with its code, whole and by chunks`, (t) => {
    const context = contextOfVector(intact, primitives);
    sameBytes(t, opened(context, hex(intact.file ?? ''), hex(intact.salt)), plainOfVector(intact));
    for (const { name, file, error } of faults) {
      t.throws(() => opened(context, hex(file), hex(intact.salt)), { name: 'TimebandError', code: error }, name);
      t.throws(() => openedByChunks(context, hex(file), hex(intact.salt)), { name: 'TimebandError', code: error }, name);
    }
  });
}

test('a table with an impossible length is refused by itself, though commitment and file length fit it', (t) => {
  const context = contextOfVector(intact, nodePrimitives);
  const salt = hex(intact.salt);
  t.notThrows(() => openBandHeader(context, hex(intact.file ?? ''), { salt, fileBytes: intact.fileBytes }));
  for (const { name, head, fileBytes, error } of tables) {
    t.throws(() => openBandHeader(context, hex(head), { salt, fileBytes }), { name: 'TimebandError', code: error }, name);
  }
});

const plain = bandOf(chunkOf('text', 'a'), chunkOf('random', 'b'));
const REFUSED = 'BAND_CORRUPT';

for (const cipher of CIPHER_NAMES) {
  const context = contextOf({ cipher });
  const file = sealed(context, plain);
  const other = CIPHER_NAMES.find((name) => name !== cipher) ?? cipher;

  test(`${cipher}: a file of another key, domain, cipher or band size is refused`, (t) => {
    const larger = 2 * context.bandBytes;
    for (const change of [{ bandKey: fill('other', 32) }, { domainId: fill('other', 16) }, { cipher: other }, { bandBytes: larger }]) {
      t.true(
        isRefused(() => opened(contextOf({ cipher, ...change }), file), REFUSED),
        Object.keys(change).join(),
      );
    }
    t.true(isRefused(() => opened(context, sealed(contextOf({ cipher, bandBytes: larger }), bandOf(plain, plain))), REFUSED));
  });

  test(`${cipher}: another sealing of the same band is refused, though it is sound itself`, (t) => {
    const salt = fill('salt 2', 24);
    const older = sealed(context, plain, salt);
    sameBytes(t, opened(context, older, salt), plain);
    t.true(isRefused(() => opened(context, older), REFUSED));
    const forged = Uint8Array.from(older);
    forged.set(SALT, 8);
    t.true(isRefused(() => opened(context, forged), REFUSED));
  });

  test(`${cipher}: two sealings of one band have no sealed bytes in common`, (t) => {
    const again = sealed(context, plain, fill('salt 2', 24));
    const same = file.subarray(72).filter((byte, i) => byte === again[72 + i]).length;
    t.true(same < file.length / 128, `${same} of ${file.length}`); // about 1 in 256 by chance
  });

  test(`${cipher}: chunks of equal length swapped, doubled or moved between files are refused`, (t) => {
    const [one, two] = [bandOf(chunkOf('random', '1'), chunkOf('random', '2')), bandOf(chunkOf('random', '3'), chunkOf('random', '4'))];
    const [a, b] = [sealed(context, one), sealed(context, two, fill('salt 2', 24))];
    const half = CHUNK_BYTES + 16;
    const parts = (from: Uint8Array): Uint8Array[] => [from.subarray(72, 72 + half), from.subarray(72 + half, -4)];
    const [[a0, a1], [b0]] = [parts(a), parts(b)];
    for (const [first, second] of [
      [a1, a0],
      [a0, a0],
      [b0, a1],
    ]) {
      const mixed = bandOf(a.subarray(0, 72), first ?? a, second ?? a, a.subarray(-4));
      t.is(mixed.length, a.length);
      t.true(isRefused(() => opened(context, mixed), REFUSED));
    }
  });
}

test('a header whose length is not the one that the index states is refused', (t) => {
  const file = sealed(contextOf(), plain);
  for (const fileBytes of [0, file.length - 1, file.length + 1, 2 ** 32]) {
    t.true(
      isRefused(() => openBandHeader(contextOf(), file, { salt: SALT, fileBytes }), REFUSED),
      `${fileBytes}`,
    );
  }
  t.is(openBandHeader(contextOf(), file, { salt: SALT, fileBytes: file.length }).fileBytes, file.length);
});

test('a chunk that was read short, or of another place, is refused', (t) => {
  const file = sealed(contextOf(), plain);
  const header = openBandHeader(contextOf(), file, { salt: SALT, fileBytes: file.length });
  const { offset = 0, length = 0 } = header.chunks[1] ?? {};
  const open = (number: number, from: number, to: number): void =>
    openChunk(contextOf(), header, {
      number,
      sealed: file.subarray(from, to),
      scratch: new Uint8Array(CHUNK_BYTES),
      out: new Uint8Array(CHUNK_BYTES),
    });
  t.notThrows(() => open(1, offset, offset + length));
  for (const [number, from, to] of [
    [1, offset, offset + length - 1],
    [1, offset, offset],
    [1, offset - 1, offset + length - 1],
    [1, offset, offset + length + 1],
    [0, offset, offset + length],
  ] as const) {
    t.true(
      isRefused(() => open(number, from, to), REFUSED),
      `chunk ${number} from ${from} to ${to}`,
    );
  }
});

test('a file without checksum, shorter than one, or with a changed one is found without any key', (t) => {
  const file = sealed(contextOf(), plain);
  for (const primitives of [nodePrimitives, noblePrimitives]) {
    t.true(hasValidCrc(primitives, file));
    for (const bad of [file.subarray(0, -1), file.subarray(0, -4), bandOf(file, Uint8Array.of(0)), new Uint8Array(0), new Uint8Array(3)]) {
      t.false(hasValidCrc(primitives, bad), `${bad.length} bytes`);
    }
  }
});
