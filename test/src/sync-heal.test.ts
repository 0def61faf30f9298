/** Syncs and the damaged list: what the source still holds is healed for all sessions, and nothing is built on damage. */
import { closeSync, existsSync, lstatSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { openSource } from '../../src/sources/open-source.ts';
import type { SourceView } from '../../src/sources/source.ts';
import { fill, sameBytes } from '../support/bytes.ts';
import { bandFile, cut, flip } from '../support/damage.ts';
import { BAND_256K } from '../support/library.ts';
import { readPart, writeParts } from '../support/parts.ts';
import { BANDS, repairScene } from './repair/repair-scene.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** A source that says that nothing changed, whatever did. */
const silent: typeof openSource = async (...args) => {
  const { view, warning } = await openSource(...args);
  const claiming: SourceView = {
    kind: view.kind,
    location: view.location,
    sizeBytes: view.sizeBytes,
    warnings: view.warnings,
    readDataMap: () => view.readDataMap(),
    changesSince: () => Promise.resolve({ isKnown: true, ranges: [] }),
    withBand: (range, data, use) => view.withBand(range, data, use),
    verifyStable: () => view.verifyStable(),
    bind: (token) => view.bind(token),
    committed: (token) => view.committed(token),
    close: () => view.close(),
  };
  return { view: claiming, warning };
};

test('a sync heals listed bands for every session that shares them, although nothing changed', async (t) => {
  const at = await repairScene(t, pool);
  const [first, last] = [await at.session('disk', at.ids[0]), await at.session('disk')];
  flip(bandFile(first, 5));
  cut(bandFile(first, 6));
  for (const id of at.ids) rmSync(bandFile(await at.session('disk', id), 7));
  t.is((await at.repair()).listedBands, 3);
  const before = await at.sync('disk', undefined, { isDryRun: true }, { openSource: silent });
  t.like(before, { healedBands: 0, writtenBands: 3, changedBands: 0 });
  const result = await at.sync('disk', undefined, {}, { openSource: silent });
  t.like(result, { status: 'unchanged', healedBands: 3, missedBands: 0, warnings: [] });
  t.deepEqual(await at.list(), []);
  t.deepEqual((await at.check()).findings, []);
  for (const band of [5, 6, 7]) {
    t.is(lstatSync(bandFile(first, band)).nlink, 3);
    t.is(lstatSync(bandFile(first, band)).ino, lstatSync(bandFile(last, band)).ino);
  }
  await at.verifyAll();
});

test('a file that is open goes on being what it was: the healed one is another', async (t) => {
  const at = await repairScene(t, pool);
  const file = bandFile(await at.session('disk'), 5);
  flip(file);
  await at.repair();
  const { ino } = lstatSync(file);
  const damaged = readFileSync(file);
  const copy = await at.copy();
  const kept = bandFile(await (await copy.volume('disk')).openSession(at.ids[2] ?? ''), 5);
  await at.sync('disk');
  t.not(lstatSync(file).ino, ino);
  t.deepEqual(readFileSync(kept), damaged, 'what was linked elsewhere is not written to');
});

test('where the source has changed, the new session holds the new band, and the old ones stay on the list', async (t) => {
  const at = await repairScene(t, pool);
  flip(bandFile(await at.session('disk'), 5));
  flip(bandFile(await at.session('disk', at.ids[0]), 1)); // of the first session alone
  t.is((await at.repair()).listedBands, 2);
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 5 * BAND_256K + 7, bytes: fill('new', 100) }]);
  const result = await at.sync('disk');
  t.like(result, { status: 'created', healedBands: 0, changedBands: 1, writtenBands: 1 });
  t.is(result.warnings.length, 1);
  const { findings } = await at.check();
  t.false(findings.some(({ session }) => session === result.session));
  t.deepEqual(
    (await at.list()).map(({ bandIndex }) => bandIndex),
    [1, 5],
  );
  const again = await at.sync('disk', undefined, { isForced: true });
  t.is(again.linkedBands, BANDS - 1, 'the new band is linked: it is whole');
});

test('a band of the base that is zeros in the source now is not linked; one beyond a shrunk end is left', async (t) => {
  const at = await repairScene(t, pool);
  flip(bandFile(await at.session('disk'), 5));
  flip(bandFile(await at.session('disk'), 10));
  await at.repair();
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: 5 * BAND_256K, bytes: new Uint8Array(BAND_256K) }]);
  const result = await at.sync('disk');
  t.like(result, { status: 'created', healedBands: 0, zeroBands: 1, writtenBands: 0 });
  t.false(existsSync(bandFile(await at.session('disk'), 5)));
  t.is((await at.list()).length, 2);
});

test('a source that hides a change of a damaged band is caught', async (t) => {
  const at = await repairScene(t, pool);
  flip(bandFile(await at.session('disk'), 5));
  await at.repair();
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 5 * BAND_256K + 7, bytes: fill('new', 100) }]);
  const result = await at.sync('disk', undefined, {}, { openSource: silent });
  t.like(result, { status: 'created', changedBands: 1, missedBands: 1 });
});

test('bands of deleted sessions leave the list', async (t) => {
  const at = await repairScene(t, pool);
  flip(bandFile(await at.session('disk', at.ids[0]), 1));
  await at.repair();
  await at.ok('delete', `disk@${at.ids[0]}`, '--yes');
  t.is((await at.list()).length, 1);
  t.like(await at.sync('disk'), { healedBands: 0, warnings: [] });
  t.is((await at.list()).length, 0);
});

test('a mount goes on: what was an error is read right as soon as it is healed', async (t) => {
  const at = await repairScene(t, pool);
  flip(bandFile(await at.session('disk'), 5));
  await at.repair();
  const { stderr } = await at.cli('mount', at.folder('mnt'));
  t.regex(stderr, /1 band\(s\) of "disk" are known to be damaged/);
  const image = at.at('mnt', 'disk', at.ids[0] ?? '', 'image');
  const fd = openSync(image, 'r');
  const out = new Uint8Array(BAND_256K);
  t.throws(() => readSync(fd, out, 0, out.length, 5 * BAND_256K), { code: 'EIO' });
  t.like(await at.sync('disk'), { healedBands: 1 });
  t.is(readSync(fd, out, 0, out.length, 5 * BAND_256K), BAND_256K);
  closeSync(fd);
  sameBytes(t, out, readPart(at.at(`${at.ids[0]}.img`), 5 * BAND_256K, BAND_256K));
  await at.ok('unmount', at.at('mnt'));
});
