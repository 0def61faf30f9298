/** What a repair mends without any help, what it lists, and what it leaves alone. */
import { existsSync, linkSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import test from 'ava';
import { parseSessionId } from '../../../bands/format/session-id.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { changeLabels } from '../../../src/labels.ts';
import type { RepairResult } from '../../../src/repair/repair.ts';
import { bandFile, cut, flip } from '../../support/damage.ts';
import { codeOf } from '../../support/library.ts';
import { contents, repairScene } from './repair-scene.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

test('a repair of a repository that is whole changes no file of a session', async (t) => {
  const at = await repairScene(t, pool);
  await at.check();
  const before = contents(at.at('repo', 'volumes'));
  const { check, actions, mendedBands, listedBands } = await at.repair({ withData: false });
  t.deepEqual([check.findings, check.warnings, actions, mendedBands, listedBands], [[], [], [], 0, 0]);
  const changed = [...contents(at.at('repo', 'volumes'))]
    .filter(([file, content]) => before.get(file) !== content)
    .map(([file]) => path.basename(file));
  t.true(
    changed.every((name) => name === 'labels'),
    changed.join(),
  );
});

test('damaged bands go on the list, each sealing once, and come off it when they are whole again', async (t) => {
  const at = await repairScene(t, pool);
  const session = await at.session('disk', at.ids[0]);
  const [shared, own, gone] = [bandFile(session, 5), bandFile(session, 1), bandFile(session, 7)];
  const kept = readFileSync(shared);
  flip(shared);
  cut(own);
  for (const id of at.ids) rmSync(bandFile(await at.session('disk', id), 7));
  t.false(existsSync(gone));
  const { check, listedBands, mendedBands } = await at.repair();
  t.is(check.findings.length, 7, '5 and 7 in three sessions, 1 in one');
  t.deepEqual([listedBands, mendedBands], [3, 0]);
  t.deepEqual(
    (await at.list()).map(({ bandIndex }) => bandIndex),
    [1, 5, 7],
  );
  t.deepEqual((await at.repair()).actions, [], 'nothing new');
  writeFileSync(shared, kept);
  t.is((await at.check()).clearedBands, 1);
  t.deepEqual(
    (await at.list()).map(({ bandIndex }) => bandIndex),
    [1, 7],
  );
});

test('a listed band is read by every check, whatever part of the repository that is about', async (t) => {
  const at = await repairScene(t, pool);
  const file = bandFile(await at.session('disk'), 5);
  const bytes = readFileSync(file);
  flip(file);
  await at.repair();
  writeFileSync(file, bytes);
  flip(file, 5000);
  writeFileSync(file, withCrc(readFileSync(file)));
  const { stdout, status } = await at.cli('check', '--subset', '0.000001%', '--json');
  t.is(status, 3);
  t.is(JSON.parse(stdout).findings.length, 3, 'the checksum is right; only its data is not');
});

/** Puts the checksum at the end of a file right. */
function withCrc(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

test('what surrounds the chunks of a band is put right from the index', async (t) => {
  const at = await repairScene(t, pool);
  const session = await at.session('disk');
  for (const [band, byte] of [
    [3, 2], // magic
    [4, 10], // salt
    [5, 40], // commitment
  ] as const)
    flip(bandFile(session, band), byte);
  const crc = bandFile(session, 6);
  flip(crc, readFileSync(crc).length - 1);
  writeFileSync(bandFile(session, 8), Buffer.concat([readFileSync(bandFile(session, 8)), Buffer.alloc(77)]));
  const { check, mendedBands, listedBands } = await at.repair();
  t.deepEqual([check.findings, mendedBands, listedBands], [[], 5, 0]);
  t.deepEqual((await at.check()).findings, []);
  t.is(lstatSync(crc).nlink, 3, 'the sessions share the new file, too');
  t.is(Math.round(lstatSync(crc).mtimeMs), parseSessionId(at.ids[0] ?? '') ?? 0, 'the time of the session that wrote it');
  await at.verifyAll();
});

test('a copy of a band that another session has takes the place of the damaged one', async (t) => {
  const at = await repairScene(t, pool);
  const [first, last] = [await at.session('disk', at.ids[0]), await at.session('disk', at.ids[2])];
  const file = bandFile(first, 6);
  const bytes = readFileSync(file);
  rmSync(file); // as where a file system allows no more links
  writeFileSync(file, bytes);
  flip(bandFile(last, 6));
  rmSync(bandFile(last, 9));
  const { check, mendedBands } = await at.repair();
  t.deepEqual([check.findings, mendedBands], [[], 2]);
  t.is(lstatSync(file).nlink, 3);
  t.is(lstatSync(bandFile(last, 9)).nlink, 3);
  await at.verifyAll();
});

test('a band that was changed back and stored again lends its content to the lost one', async (t) => {
  const at = await repairScene(t, pool);
  const image = at.at('disk.img');
  writeFileSync(image, readFileSync(at.at(`${at.ids[0]}.img`))); // band 0 is as it was in the first session
  const { session = '' } = await at.sync('disk', image);
  const [first, last] = [await at.session('disk', at.ids[0]), await at.session('disk', session)];
  t.not(lstatSync(bandFile(first, 0)).ino, lstatSync(bandFile(last, 0)).ino);
  flip(bandFile(first, 0));
  const { check, mendedBands, actions } = await at.repair();
  t.deepEqual([check.findings, mendedBands], [[], 1]);
  t.like(actions, [{ session: at.ids[0], what: 'band 0', how: 'from another session with the same content' }]);
  await at.verifyAll();
});

test('an index page is put right by its checksum, a copy, the catalog, or the bands themselves', async (t) => {
  const at = await repairScene(t, pool);
  const pages = await Promise.all(at.ids.map(async (id) => (await at.session('disk', id)).pagePath(0)));
  const [first = '', second = '', third = ''] = pages;
  flip(first); // in what it says: the nonce before it is whole
  cut(second);
  flip(third, readFileSync(third).length - 2); // in its checksum
  const { check, actions } = await at.repair();
  t.deepEqual(check.findings, []);
  t.deepEqual(
    actions.map(({ session, how }) => [session, how]),
    [
      [at.ids[0], 'from the band files'],
      [at.ids[1], 'from the band files'],
      [at.ids[2], 'its checksum was put right'],
    ],
  );
  cut(third);
  t.like(await at.repair(), { actions: [{ session: at.ids[2], how: 'from what the catalog remembers of it' }] });
  await at.verifyAll();
});

test('an index page is made again although a band of it is damaged, if the session beside it names that band', async (t) => {
  const at = await repairScene(t, pool);
  const session = await at.session('disk', at.ids[0]);
  flip(session.pagePath(0));
  flip(bandFile(session, 5));
  const { check, actions, listedBands } = await at.repair();
  t.true(actions.some(({ what, how }) => what === 'index page 0' && how === 'from the band files'));
  t.is(listedBands, 1);
  t.true(check.findings.every(({ code }) => code === 'BAND_CORRUPT'));
});

test('a page that sessions share is mended for all of them, with one file', async (t) => {
  const at = await repairScene(t, pool);
  await at.sync('disk', at.at('disk.img'), { isForced: true });
  const file = (await at.session('disk')).pagePath(0);
  t.is(lstatSync(file).nlink, 2);
  flip(file);
  t.is((await at.repair()).actions.length, 2);
  t.is(lstatSync(file).nlink, 2);
  t.deepEqual((await at.check()).findings, []);
});

test('bitmaps come back from the indexes, manifests from the catalog, if the nonce in what is left is whole', async (t) => {
  const at = await repairScene(t, pool);
  await at.ok('sessions', 'disk', '--json'); // reads the manifests into the catalog
  const folders = await Promise.all(at.ids.map(async (id) => (await at.session('disk', id)).directory));
  for (const folder of folders) flip(path.join(folder, 'bitmap'), 34);
  for (const folder of folders) cut(path.join(folder, 'manifest'));
  const { check, actions } = await at.repair();
  t.deepEqual(check.findings, []);
  t.is(actions.filter(({ what }) => what === 'bitmap').length, 3);
  t.is(actions.filter(({ what, how }) => what === 'manifest' && how.includes('catalog')).length, 3);
  await at.verifyAll();
  t.like(await at.sync('disk'), { status: 'unchanged' }, 'no rollback is seen');
});

test('what cannot be had back stays damage: the session is left as it is', async (t) => {
  const at = await repairScene(t, pool);
  const { directory } = await at.session('disk', at.ids[1]);
  rmSync(path.join(directory, 'manifest'));
  rmSync((await at.session('disk', at.ids[0])).pagePath(0));
  const { check, actions } = await at.repair();
  t.deepEqual(
    check.findings.map(({ session, code }) => [session, code]),
    [
      [at.ids[0], 'RECORD_MISSING'],
      [at.ids[1], 'RECORD_MISSING'],
    ],
  );
  t.deepEqual(actions, []);
  t.deepEqual(await (await at.repository.volume('disk')).sessionIds(), [...at.ids]);
});

test('labels that are lost protect their session; a name that is lost is made up', async (t) => {
  const at = await repairScene(t, pool);
  const volume = await at.repository.volume('disk');
  await changeLabels(at.repository, { volume, sessionId: at.ids[0] ?? '' }, (labels) => ({ ...labels, tags: ['mine'] }));
  flip(path.join(volume.sessionPath(at.ids[0] ?? ''), 'labels'));
  cut(volume.layout.record);
  const { check, actions } = await at.repair();
  t.deepEqual(check.findings, []);
  t.deepEqual(
    actions.map(({ what, isLoss }) => [what, isLoss]),
    [
      ['volume record', true],
      ['labels', true],
    ],
  );
  const [renamed] = (await at.repository.listVolumes()).volumes;
  t.is(renamed?.name, `recovered-${volume.id.slice(0, 8)}`);
  t.like(await renamed?.readLabels(at.ids[0] ?? ''), { tags: [], isProtected: true });
});

test('what work in progress left is cleared, folders and public files are put back', async (t) => {
  const at = await repairScene(t, pool);
  const { layout } = await at.repository.volume('disk');
  mkdirSync(path.join(layout.incoming, 'dead', 'bands'), { recursive: true });
  mkdirSync(at.at('repo', 'trash', 'old'));
  writeFileSync(at.at('repo', 'trash', 'old', 'file'), '');
  rmSync(at.at('repo', 'README.txt'));
  flip(at.at('repo', 'recover.py'));
  const { actions } = await at.repair();
  t.deepEqual(actions.map(({ what }) => what).sort(), ['README.txt', 'incoming', 'recover.py', 'trash']);
  t.false(existsSync(path.join(layout.incoming, 'dead')));
  t.false(existsSync(at.at('repo', 'trash', 'old')));
  rmSync(at.at('repo', 'trash'), { recursive: true });
  t.like(await at.repair(), { actions: [{ what: 'folder trash' }] });
});

test('a damaged list of damage is made anew', async (t) => {
  const at = await repairScene(t, pool);
  flip(bandFile(await at.session('disk'), 4));
  await at.repair();
  const { layout } = await at.repository.volume('disk');
  cut(layout.damaged);
  t.is((await at.check()).findings.length, 4, 'the band in three sessions, and the list');
  t.like(await at.sync('disk'), { status: 'unchanged' });
  t.is((await at.repair()).listedBands, 1);
  t.is((await at.list()).length, 1);
});

test('a dry run tells the same and changes nothing', async (t) => {
  const at = await repairScene(t, pool);
  const session = await at.session('disk', at.ids[0]);
  flip(bandFile(session, 3), 40);
  flip(bandFile(session, 5));
  flip(session.pagePath(0), 60);
  flip(path.join((await at.session('disk')).directory, 'bitmap'), 33);
  const before = contents(at.at('repo', 'volumes'));
  const told = await at.repair({ isDryRun: true, withData: false });
  const isSame = [...contents(at.at('repo', 'volumes'))].every(([file, content]) => before.get(file) === content || path.basename(file) === 'labels');
  t.true(isSame);
  const done = await at.repair({ withData: false });
  const kinds = ({ actions }: RepairResult): string[] => [...new Set(actions.map(({ what, how }) => `${what} ${how}`))];
  t.deepEqual(kinds(told), kinds(done));
  t.is(kinds(done).length, 4);
  t.deepEqual([told.listedBands, done.listedBands], [1, 1]);
});

test('a link in place of a band is replaced, not followed; a folder in its place is left, and the rest mended', async (t) => {
  const at = await repairScene(t, pool);
  const [first, last] = [await at.session('disk', at.ids[0]), await at.session('disk', at.ids[2])];
  writeFileSync(at.at('secret'), 'secret');
  for (const band of [5, 6]) rmSync(bandFile(last, band));
  linkSync(at.at('secret'), bandFile(last, 5));
  mkdirSync(bandFile(last, 6));
  const { mendedBands, check } = await at.repair();
  t.is(mendedBands, 1);
  t.is(readFileSync(at.at('secret'), 'utf8'), 'secret');
  t.is(lstatSync(bandFile(last, 5)).ino, lstatSync(bandFile(first, 5)).ino);
  t.deepEqual(
    check.findings.map(({ session }) => session),
    [at.ids[2]],
  );
  t.is(check.warnings.length, 1);
});

test('a volume that is being written is not repaired', async (t) => {
  const at = await repairScene(t, pool);
  await using _lock = await at.repository.lockVolume(await at.repository.volume('disk'), 'sync disk');
  t.is(await codeOf(() => at.repair()), 'LOCKED');
});
