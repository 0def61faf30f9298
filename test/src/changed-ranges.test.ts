/** Change sets that the user brings: only those bands are read, and a set that counts from another session is not believed. */
import { writeFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { restoreSession } from '../../src/restore.ts';
import { parseChangedRanges, readChangedRanges } from '../../src/sources/changed-ranges.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

test('lines of offset and length are read; empty lines, comments and spaces are passed over', (t) => {
  t.deepEqual(parseChangedRanges('# changes\n0 512\n\n  4096\t8192  \r\n1 0\n', 'file'), [
    { offset: 0, length: 512 },
    { offset: 4096, length: 8192 },
    { offset: 1, length: 0 },
  ]);
  t.deepEqual(parseChangedRanges('', 'file'), []);
});

for (const line of ['1', '1 2 3', '-1 5', '1 -5', '0x10 5', '1.5 2', 'a b', '9007199254740991 1', '1,2']) {
  test(`the line "${line}" is refused with its number`, async (t) => {
    const error = await t.throwsAsync(async () => await Promise.resolve(parseChangedRanges(`0 1\n${line}\n`, 'file')), { code: 'USAGE' });
    t.regex(error?.message ?? '', /line 2/);
  });
}

test('what is printed as ranges is read back as the same ranges', (t) => {
  const ranges = fc.array(fc.record({ offset: fc.nat(2 ** 40), length: fc.nat(2 ** 40) }));
  fc.assert(
    fc.property(ranges, (all) => {
      t.deepEqual(parseChangedRanges(all.map(({ offset, length }) => `${offset} ${length}`).join('\n'), 'file'), all);
    }),
  );
});

test('a file that is not there is an error of that file', async (t) => {
  t.is(await codeOf(() => readChangedRanges('/nowhere/ranges')), 'IO_ERROR');
});

const BANDS = 40;
/** Bands that every sync reads besides, as an audit of what the source says. */
const AUDITED = 16;

async function synced(at: Lab): Promise<string> {
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 0, bytes: fill('all', BANDS * BAND_256K) }]);
  return (await at.sync('disk', at.at('disk.img'))).session ?? '';
}

test('only the bands that the ranges touch are read; the others are linked unread', async (t) => {
  const at = await lab(t, pool);
  const since = await synced(at);
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [
    { at: 5 * BAND_256K - 1, bytes: Uint8Array.of(1, 2) },
    { at: 12 * BAND_256K, bytes: new Uint8Array(BAND_256K) },
  ]);
  const ranges = [
    { offset: 5 * BAND_256K - 1, length: 2 },
    { offset: 12 * BAND_256K, length: BAND_256K },
    { offset: 0, length: 0 },
    { offset: 1000 * BAND_256K, length: 5 },
  ];
  const result = await at.sync('disk', undefined, { changes: { since, ranges } });
  t.like(result, { changedBands: 3, writtenBands: 2, linkedBands: BANDS - 3, zeroBands: 1, missedBands: 0, warnings: [] });
  t.true(result.readBytes >= 3 * BAND_256K && result.readBytes <= (3 + AUDITED) * BAND_256K);
  await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
  t.is(firstWrongByte(at.at('restored.img'), at.at('disk.img')), undefined);
});

test('ranges that count from another session are not believed: everything is read, with a warning', async (t) => {
  const at = await lab(t, pool);
  const since = await synced(at);
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 0, bytes: fill('second', 512) }]);
  await at.sync('disk');
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 3 * BAND_256K, bytes: fill('third', 512) }]);
  const result = await at.sync('disk', undefined, { changes: { since, ranges: [] } });
  t.like(result, { changedBands: 1, readBytes: BANDS * BAND_256K });
  t.is(result.warnings.length, 1);
  t.like(await at.sync('new', at.at('disk.img'), { changes: { since, ranges: [] } }), { readBytes: BANDS * BAND_256K, writtenBands: BANDS });
});

test('an empty change set makes no session, and reads nothing but the audit', async (t) => {
  const at = await lab(t, pool);
  const since = await synced(at);
  const result = await at.sync('disk', undefined, { changes: { since, ranges: [] } });
  t.like(result, { status: 'unchanged', session: since });
  t.true(result.readBytes <= AUDITED * BAND_256K);
});

test('the command line wants the ranges and the session together, for one volume, and reads only those', async (t) => {
  const at = await lab(t, pool);
  const since = await synced(at);
  writeFileSync(at.at('ranges'), `${7 * BAND_256K} 512\n`);
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 7 * BAND_256K, bytes: fill('second', 512) }]);
  t.is((await at.cli('sync', 'disk', '--changed-ranges', at.at('ranges'))).status, 2);
  t.is((await at.cli('sync', 'disk', '--since', since)).status, 2);
  t.is((await at.cli('sync', 'disk', 'other', '--since', since, '--changed-ranges', at.at('ranges'))).status, 2);
  const { results } = await at.json('sync', 'disk', '--since', since, '--changed-ranges', at.at('ranges'));
  t.like(results[0], { status: 'created', changedBands: 1, missedBands: 0 });
  t.true(results[0].readBytes <= (1 + AUDITED) * BAND_256K);
});

test('ranges that leave out what changed are found out by the audit: everything is read, loudly, and the session is right', async (t) => {
  const at = await lab(t, pool);
  const since = await synced(at);
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 0, bytes: fill('other', BANDS * BAND_256K) }]);
  writeFileSync(at.at('ranges'), `${7 * BAND_256K} 512\n`);
  const { status, stderr, stdout } = await at.cli('sync', 'disk', '--since', 'latest', '--changed-ranges', at.at('ranges'), '--json');
  t.is(status, 3);
  t.regex(stderr, /CANNOT BE TRUSTED/);
  t.like(JSON.parse(stdout).results[0], { status: 'created', base: since, changedBands: BANDS, missedBands: BANDS - 1 });
  await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
  t.is(firstWrongByte(at.at('restored.img'), at.at('disk.img')), undefined);
});

test('with --verify-changes every band that was left out is found', async (t) => {
  const at = await lab(t, pool);
  await synced(at);
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 33 * BAND_256K, bytes: fill('other', 512) }]);
  const result = await at.sync('disk', undefined, { changes: { since: 'latest', ranges: [] }, verifiesChanges: true });
  t.like(result, { status: 'created', changedBands: 1, missedBands: 1, readBytes: BANDS * BAND_256K });
});
