/** Volumes with padding: everything that is done with a volume keeps their files padded, and whole. */
import { lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { fixedBytes } from '../../bands/format/band-header.ts';
import { type Padding, paddedContentBytes } from '../../bands/format/padding.ts';
import { createCursor } from '../../bands/store/image.ts';
import { SessionImage } from '../../bands/store/session-image.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { copySessions } from '../../src/copy/copy.ts';
import { repairRepository } from '../../src/repair/repair.ts';
import { restoreSession } from '../../src/restore.ts';
import type { Volume } from '../../src/volume.ts';
import { fill, flipBit, isSame, sameBytes } from '../support/bytes.ts';
import { secondRepository } from '../support/copies.ts';
import { bandFile } from '../support/damage.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { firstWrongByte, readPart, writeParts } from '../support/parts.ts';
import { recover } from '../support/recover.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const BANDS = 6;
const WORDS = new Uint8Array(Buffer.from('a text that compresses well\n'.repeat(9363)));

interface Scene extends Lab {
  readonly image: string;
  readonly volume: Volume;
}

/** A volume of bands that compress differently: text, noise, half of each, a few bytes, zeros; and two sessions. */
async function padded(t: ExecutionContext, padding: Padding): Promise<Scene> {
  const at = await lab(t, pool);
  const image = at.at('disk.img');
  writeParts(image, BANDS * BAND_256K, [
    { at: 0, bytes: WORDS },
    { at: BAND_256K, bytes: fill('noise', BAND_256K) },
    { at: 2 * BAND_256K, bytes: WORDS.subarray(0, 131_072) },
    { at: 2 * BAND_256K + 131_072, bytes: fill('more noise', 131_072) },
    { at: 3 * BAND_256K + 5, bytes: fill('few', 3) },
  ]);
  await at.sync('disk', image, { padding });
  writeParts(image, BANDS * BAND_256K, [{ at: 5 * BAND_256K, bytes: WORDS.subarray(0, 1000) }]);
  await at.sync('disk', image, { padding });
  return { ...at, image, volume: await at.repository.volume('disk') };
}

/** Lengths of the band files of a volume's newest session. */
async function lengthsOf(volume: Volume): Promise<number[]> {
  const folder = path.join(volume.sessionPath(await volume.resolve()), 'bands');
  return readdirSync(folder).map((name) => lstatSync(path.join(folder, name)).size);
}

function isRounded(length: number, padding: Padding): boolean {
  const content = length - fixedBytes(BAND_256K);
  return paddedContentBytes(content, padding) === content;
}

for (const padding of ['padme', 65_536, BAND_256K] as const) {
  test(`padded by ${padding}: all files have rounded lengths, the rest is told, and all comes back`, async (t) => {
    const at = await padded(t, padding);
    const lengths = await lengthsOf(at.volume);
    t.is(lengths.length, 5);
    t.true(lengths.every((length) => isRounded(length, padding)));
    t.is(new Set(lengths).size, padding === BAND_256K ? 1 : 3);
    const plain = await at.sync('plain', at.image);
    const first = await at.sync('other', at.image, { padding });
    t.deepEqual([plain.paddedBytes, plain.writtenBands, first.writtenBands], [0, 5, 5]);
    t.is(first.writtenBytes - first.paddedBytes, plain.writtenBytes + 5 * 20, 'what is not padding is what it was, and the seals of the tables');
    t.is((await at.sync('other', undefined, { isForced: true, padding })).paddedBytes, 0, 'nothing was written');
    t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
    await restoreSession({ session: await at.session('disk'), target: at.at('out.img'), pool });
    t.is(firstWrongByte(at.at('out.img'), at.image), undefined);
  });
}

test('how a volume is padded is fixed when it is made', async (t) => {
  const at = await padded(t, 'padme');
  for (const padding of [65_536, BAND_256K]) t.is(await codeOf(() => at.sync('disk', undefined, { padding })), 'USAGE');
  await at.sync('plain', at.image);
  t.is(await codeOf(() => at.sync('plain', undefined, { padding: 'padme' })), 'USAGE');
  t.is(await codeOf(() => at.sync('new', at.image, { padding: 2 * BAND_256K })), 'USAGE');
  t.is(await codeOf(() => at.repository.createVolume('new', { padding: 100 })), 'USAGE');
  t.is(await at.repository.findVolume('new'), undefined);
  await at.repository.changeVolume(at.volume, (record) => ({ ...record, name: 'renamed' }));
  t.is((await at.repository.volume('renamed')).record.padding, 'padme');
});

test('any bytes are read from a padded session, with workers and without', async (t) => {
  const at = await padded(t, 'padme');
  const bytes = readPart(at.image, 0, BANDS * BAND_256K);
  const session = await at.session('disk');
  const images = [new SessionImage(session, { pool }), new SessionImage(session), new SessionImage(session, { cacheBytes: 1 })];
  const ranges = fc.record({ offset: fc.nat(bytes.length - 1), length: fc.integer({ min: 1, max: 300_000 }), which: fc.nat(images.length - 1) });
  await fc.assert(
    fc.asyncProperty(ranges, async ({ offset, length, which }) => {
      const out = new Uint8Array(Math.min(length, bytes.length - offset));
      await images[which]?.read(out, offset, createCursor());
      return isSame(out, bytes.subarray(offset, offset + out.length));
    }),
    { numRuns: 60 },
  );
  t.pass();
});

/** Puts the checksum at the end of a file right. */
function withCrc(bytes: Uint8Array): Uint8Array {
  const buffer = Buffer.from(bytes);
  buffer.writeUInt32LE(crc32(buffer.subarray(0, -4)), buffer.length - 4);
  return buffer;
}

test('altered padding is found by a check of the data; the data comes back all the same, and a repair needs nothing to mend it', async (t) => {
  const at = await padded(t, BAND_256K);
  const file = bandFile(await at.session('disk'), 0);
  const whole = readFileSync(file);
  writeFileSync(file, withCrc(flipBit(whole, (whole.length - 100_000) * 8)));
  t.deepEqual((await checkRepository(at.repository, { pool, withData: false })).findings, [], 'its checksum is right');
  t.is((await checkRepository(at.repository, { pool, withData: true })).findings.length, 2, 'in both sessions');
  t.is((await recover(at, ['verify', at.repo])).status, 3);
  await restoreSession({ session: await at.session('disk'), target: at.at('out.img'), pool });
  t.is(firstWrongByte(at.at('out.img'), at.image), undefined);
  t.is((await recover(at, ['restore', at.repo, 'disk', at.at('recovered.img')])).status, 0);
  t.is(firstWrongByte(at.at('recovered.img'), at.image), undefined);
  const { check, mendedBands } = await repairRepository(at.repository, { pool, withData: true });
  t.deepEqual([check.findings, mendedBands], [[], 1]);
  sameBytes(t, readFileSync(file), whole);
});

test('magic, salt, checksum and length are put right without the data; commitment and table by the source, as the same file', async (t) => {
  const at = await padded(t, 'padme');
  const session = await at.session('disk');
  const files = [0, 1, 2, 3, 5].map((band) => bandFile(session, band));
  const whole = files.map((file) => readFileSync(file));
  const [text = '', noise = '', half = '', few = '', changed = ''] = files;
  const turn = (file: string, byte: number): void => writeFileSync(file, flipBit(readFileSync(file), byte * 8));
  turn(text, 7); // version
  turn(noise, 20); // salt
  writeFileSync(half, Buffer.concat([readFileSync(half), Buffer.alloc(9)]));
  turn(few, 40); // commitment
  turn(changed, 70); // table
  const { mendedBands, listedBands } = await repairRepository(at.repository, { pool, withData: true });
  t.deepEqual([mendedBands, listedBands], [3, 2]);
  const result = await at.sync('disk');
  t.is(result.healedBands, 2);
  for (const [i, file] of files.entries()) sameBytes(t, readFileSync(file), whole[i] ?? new Uint8Array(0), `file ${i}`);
  t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
});

test('a volume whose record is lost goes on with the padding that its sessions had', async (t) => {
  const at = await padded(t, 65_536);
  rmSync(at.volume.layout.record);
  await repairRepository(at.repository, { pool, withData: true });
  const [volume] = (await at.repository.listVolumes()).volumes;
  t.is(volume?.record.padding, 65_536);
  writeParts(at.image, BANDS * BAND_256K, [{ at: 4 * BAND_256K, bytes: fill('new', 10) }]);
  t.true((await at.sync(volume?.name ?? '', at.image)).paddedBytes > 65_000);
  t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
});

test('recover.py salvages padded bands when records and index are lost', async (t) => {
  const at = await padded(t, 'padme');
  const session = await at.session('disk');
  for (const file of [at.volume.layout.record, path.join(session.directory, 'manifest'), session.pagePath(0)]) rmSync(file);
  const title = `${at.volume.id}@${session.sessionId}`;
  const { status, stderr } = await recover(at, ['restore', at.repo, title, at.at('out.img'), '--salvage']);
  t.is(status, 3, stderr);
  t.is(firstWrongByte(at.at('out.img'), at.image), undefined);
});

for (const { title, spec } of [
  { title: 'the same keys', spec: { hasSameKeys: true } },
  { title: 'other keys and another cipher', spec: { hasSameKeys: false, cipher: 'chacha20-poly1305' } },
] as const) {
  test(`a copy under ${title} is padded as the original`, async (t) => {
    const at = await padded(t, 'padme');
    const second = await secondRepository(t, at, spec);
    await copySessions(at.repository, second, { requests: [{ name: 'disk', session: undefined }] }, { pool });
    const copy = await second.volume('disk');
    t.deepEqual(copy.record, at.volume.record);
    t.deepEqual((await lengthsOf(copy)).sort(), (await lengthsOf(at.volume)).sort());
    t.deepEqual((await checkRepository(second, { pool, withData: true })).findings, []);
    t.is((await recover(at, ['verify', second.layout.root])).status, 0);
    t.is((await copy.openSession(await copy.resolve())).manifest.padding, 'padme');
  });
}
