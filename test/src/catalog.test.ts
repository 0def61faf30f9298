/** The catalog is a cache: lost, damaged, poisoned or in somebody else's hands, it costs speed and nothing else. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Level } from 'level';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Catalog } from '../../src/catalog.ts';
import { checkRepository } from '../../src/check/check.ts';
import { Repository } from '../../src/repository.ts';
import { restoreSession } from '../../src/restore.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { fill, sameBytes } from '../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { PASSPHRASE, type Workspace, workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const VOLUME = '00112233445566778899aabbccddeeff';

function openCatalog(t: ExecutionContext, ws: Workspace): { catalog: Catalog; warnings: string[] } {
  const warnings: string[] = [];
  const catalog = new Catalog(ws.at('state'), 'repository', (message) => warnings.push(message));
  t.teardown(() => catalog.close());
  return { catalog, warnings };
}

test.serial('what was remembered is there after closing, for the next process, and nothing else is', async (t) => {
  const ws = workspace(t);
  const newest = { sessionId: '20261121T100000.123Z', manifestDigest: fill('digest', 32) };
  const page = { digest: fill('page', 32), entries: fill('entries', 640) };
  {
    await using catalog = new Catalog(ws.at('state'), 'repository', t.fail);
    await catalog.rememberSource(VOLUME, { kind: 'image', location: '/a/b=c' });
    await catalog.rememberNewest(VOLUME, newest);
    await catalog.rememberPages(VOLUME, new Map([[3, page]]));
    await catalog.rememberSessions(VOLUME, new Map([[newest.sessionId, fill('facts', 99)]]));
  }
  const { catalog, warnings } = openCatalog(t, ws);
  t.deepEqual(await catalog.source(VOLUME), { kind: 'image', location: '/a/b=c' });
  const kept = await catalog.newest(VOLUME);
  t.is(kept?.sessionId, newest.sessionId);
  sameBytes(t, kept?.manifestDigest ?? new Uint8Array(0), newest.manifestDigest);
  const pages = catalog.pageCache(VOLUME);
  sameBytes(t, (await pages.get(3, page.digest)) ?? new Uint8Array(0), page.entries);
  t.is(await pages.get(3, fill('another page', 32)), undefined, 'a page counts under its digest only');
  t.is(await pages.get(2, page.digest), undefined);
  const sessions = await catalog.sessions(VOLUME, ['20261121T100000.122Z', newest.sessionId]);
  t.deepEqual([...sessions.keys()], [newest.sessionId]);
  sameBytes(t, sessions.get(newest.sessionId) ?? new Uint8Array(0), fill('facts', 99));
  t.is(await catalog.source('ffffffffffffffffffffffffffffffff'), undefined);
  t.is(await catalog.newest('ffffffffffffffffffffffffffffffff'), undefined);
  t.deepEqual(warnings, []);
});

test.serial('two processes use a catalog in turns', async (t) => {
  const ws = workspace(t);
  const { catalog: one, warnings } = openCatalog(t, ws);
  const { catalog: two, warnings: others } = openCatalog(t, ws);
  await one.rememberSource(VOLUME, { kind: 'image', location: '/one' });
  await two.rememberSource(VOLUME, { kind: 'image', location: '/two' });
  t.deepEqual(await one.source(VOLUME), { kind: 'image', location: '/two' });
  t.deepEqual([...warnings, ...others], []);
});

const catalogOf = (ws: Workspace): string => {
  const [repository = ''] = readdirSync(ws.at('state'));
  return path.join(ws.at('state'), repository, 'catalog');
};

/** A repository with two sessions of a volume, the newer with a changed band, and the catalog that the commands use. */
async function twoSessions(t: ExecutionContext): Promise<Lab> {
  const at = await lab(t, pool);
  await using catalog = new Catalog(at.at('state'), at.repository.id, t.fail);
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: 0, bytes: fill('one', 3 * BAND_256K) }]);
  await at.sync('disk', at.at('disk.img'), {}, { catalog });
  await catalog.close(); // opened again, LevelDB moves what it logged into a table
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: BAND_256K, bytes: fill('two', 512) }]);
  await at.sync('disk', undefined, {}, { catalog });
  return at;
}

/** The next sync of the command line stores the one band that changed; gives what it says on stderr. */
async function verifySync(t: ExecutionContext, at: Lab): Promise<string> {
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: 2 * BAND_256K, bytes: fill('three', 512) }]);
  const { status, stdout, stderr } = await at.cli('sync', 'disk', '--json');
  t.is(status, 0, stderr);
  t.like(JSON.parse(stdout).results[0], { status: 'created', changedBands: 1, writtenBands: 1, linkedBands: 2 });
  await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
  t.is(firstWrongByte(at.at('restored.img'), at.at('disk.img')), undefined);
  t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
  return stderr;
}

test.serial('with the catalog deleted a sync finds its source in the manifest and is right', async (t) => {
  const ws = await twoSessions(t);
  rmSync(ws.at('state'), { recursive: true });
  t.is(await verifySync(t, ws), '');
});

for (const { what, damage } of [
  { what: 'whose CURRENT file is garbage', damage: (folder: string) => writeFileSync(path.join(folder, 'CURRENT'), 'garbage') },
  { what: 'whose manifest is cut', damage: (folder: string) => eachFile(folder, /^MANIFEST/, () => new Uint8Array(3)) },
  { what: 'whose log is overwritten', damage: (folder: string) => eachFile(folder, /\.log$/, (bytes) => bytes.fill(0x5a)) },
  { what: 'whose tables and log are overwritten', damage: (folder: string) => eachFile(folder, /\.(?:log|ldb)$/, (bytes) => bytes.fill(0x5a)) },
  { what: 'that lost all files but CURRENT', damage: (folder: string) => eachFile(folder, /^(?!CURRENT)/, () => undefined) },
]) {
  test.serial(`with a catalog ${what} a sync warns at most and is right`, async (t) => {
    const ws = await twoSessions(t);
    damage(catalogOf(ws));
    await verifySync(t, ws);
    t.is((await ws.cli('sync', 'disk')).stderr, '', 'the next one finds a catalog that works');
  });
}

function eachFile(folder: string, pattern: RegExp, change: (bytes: Uint8Array) => Uint8Array | undefined): void {
  const names = readdirSync(folder).filter((one) => pattern.test(one));
  if (names.length === 0) throw new RangeError('pattern: there is no such file');
  for (const name of names) {
    const file = path.join(folder, name);
    const changed = change(readFileSync(file));
    if (changed === undefined) rmSync(file);
    else writeFileSync(file, changed);
  }
}

test.serial('while another program holds the catalog a sync warns, goes on without it, and is right', async (t) => {
  const ws = await twoSessions(t);
  const level = new Level(catalogOf(ws));
  await level.open();
  t.teardown(() => level.close());
  t.regex(await verifySync(t, ws), /catalog/);
});

test.serial('a state folder that cannot be made costs a warning, no more', async (t) => {
  const ws = await twoSessions(t);
  rmSync(ws.at('state'), { recursive: true });
  writeFileSync(ws.at('state'), 'a file');
  t.regex(await verifySync(t, ws), /catalog/);
  t.true(statSync(ws.at('state')).isFile());
});

test.serial('pages that the catalog brings are used under their digest only: a poisoned entry changes nothing', async (t) => {
  const at = await lab(t, pool);
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: 0, bytes: fill('one', 3 * BAND_256K) }]);
  await using catalog = new Catalog(at.at('state'), 'repository', t.fail);
  await at.sync('disk', at.at('disk.img'), {}, { catalog });
  const { id } = await at.repository.volume('disk');
  await catalog.rememberPages(id, new Map([[0, { digest: fill('wrong', 32), entries: new Uint8Array(640) }]]));
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: 0, bytes: fill('two', 512) }]);
  t.like(await at.sync('disk', undefined, {}, { catalog }), { changedBands: 1, linkedBands: 2 });
  await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
  t.is(firstWrongByte(at.at('restored.img'), at.at('disk.img')), undefined);
});

test.serial('a damaged index page that the catalog still has is written anew, not linked into the next session', async (t) => {
  const at = await lab(t, pool);
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: 0, bytes: fill('one', 3 * BAND_256K) }]);
  await using catalog = new Catalog(at.at('state'), at.repository.id, t.fail);
  await at.sync('disk', at.at('disk.img'), {}, { catalog });
  using cached = await Repository.open(at.repo, { passphrase: PASSPHRASE }, { pageCacheFor: (id) => catalog.pageCache(id) });
  writeFileSync((await at.session('disk')).pagePath(0), 'damaged');
  t.is((await syncVolume(cached, { name: 'disk', isForced: true }, { catalog, pool })).status, 'created');
  await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
  t.is(firstWrongByte(at.at('restored.img'), at.at('disk.img')), undefined);
});
