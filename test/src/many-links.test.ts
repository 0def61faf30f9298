/** ext4 allows 65,000 links to a file: beyond that a band is copied, and the session is whole all the same. */
import { linkSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { errnoOf } from '../../bands/errors.ts';
import { linkOrCopy } from '../../bands/store/link-file.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Catalog } from '../../src/catalog.ts';
import { checkRepository } from '../../src/check/check.ts';
import { Repository } from '../../src/repository.ts';
import { restoreSession } from '../../src/restore.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, makeFastRepository, openNamed } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { PASSPHRASE, sh, type Workspace, workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** A small ext4 of its own, so that the links are gone with it. */
function mountExt4(t: ExecutionContext): Workspace {
  const ws = workspace(t);
  sh('truncate', '-s', '128M', ws.at('fs.img'));
  sh('mkfs.ext4', '-q', '-F', '-b', '4096', ws.at('fs.img'));
  sh('mount', '-o', 'loop', ws.at('fs.img'), ws.folder('mnt'));
  return ws;
}

/** Links a file until the file system refuses. */
function useUpLinks(ws: Workspace, file: string): void {
  const folder = ws.folder('mnt', 'links');
  try {
    for (let i = 0; i < 100_000; i++) linkSync(file, `${folder}/${i}`);
  } catch (error) {
    if (errnoOf(error) !== 'EMLINK') throw error;
  }
}

test.serial('a file with all its links in use is copied with its bytes, mode and time; one that is missing is said to be', (t) => {
  const ws = mountExt4(t);
  const file = ws.at('mnt', 'file');
  writeFileSync(file, fill('band', 10_000), { mode: 0o600 });
  sh('touch', '--date', '2026-11-21T10:00:00.123Z', file);
  t.is(linkOrCopy(file, ws.at('mnt', 'linked')), 'linked');
  useUpLinks(ws, file);
  t.is(linkOrCopy(file, ws.at('mnt', 'copy')), 'copied');
  const [from, to] = [lstatSync(file), lstatSync(ws.at('mnt', 'copy'))];
  t.is(Buffer.compare(readFileSync(ws.at('mnt', 'copy')), readFileSync(file)), 0);
  t.deepEqual([to.mode, to.nlink, to.ino === from.ino], [from.mode, 1, false]);
  t.true(Math.abs(to.mtimeMs - from.mtimeMs) < 1);
  t.is(linkOrCopy(ws.at('mnt', 'nothing'), ws.at('mnt', 'x')), 'missing');
  t.throws(() => linkOrCopy(file, ws.at('mnt', 'copy')), { code: 'IO_ERROR' });
});

test.serial('a sync whose base band and index page have all their links in use copies them, and both sessions are right', async (t) => {
  const ws = mountExt4(t);
  const repo = ws.at('mnt', 'repo');
  await makeFastRepository(repo);
  using repository = await Repository.open(repo, { passphrase: PASSPHRASE });
  const sync = (isForced = false) => syncVolume(repository, { name: 'disk', location: ws.at('disk.img'), bandBytes: BAND_256K, isForced }, { pool });
  writeParts(ws.at('disk.img'), 4 * BAND_256K, [{ at: 0, bytes: fill('disk', 3 * BAND_256K) }]);
  await sync();
  const session = await openNamed(repository, 'disk');
  const [band = ''] = session.bandPaths(1, 1);
  useUpLinks(ws, band);
  writeParts(ws.at('disk.img'), 4 * BAND_256K, [{ at: 0, bytes: fill('changed', 512) }]);
  t.like(await sync(), { status: 'created', changedBands: 1, linkedBands: 2 });
  const next = await openNamed(repository, 'disk');
  t.not(lstatSync(next.bandPaths(1, 1)[0] ?? '').ino, lstatSync(band).ino);
  t.like(await sync(true), { status: 'created', linkedBands: 3 });
  await restoreSession({ session: await openNamed(repository, 'disk'), target: ws.at('restored.img'), pool });
  t.is(firstWrongByte(ws.at('restored.img'), ws.at('disk.img')), undefined);
  t.deepEqual((await checkRepository(repository, { pool, withData: true })).findings, []);
});

test.serial('a clone of a template whose band has all its links in use gets a copy of it, and both are right', async (t) => {
  const ws = mountExt4(t);
  const repo = ws.at('mnt', 'repo');
  await makeFastRepository(repo);
  using repository = await Repository.open(repo, { passphrase: PASSPHRASE });
  await using catalog = new Catalog(ws.at('catalog'), repository.id, t.fail);
  const sync = (name: string) =>
    syncVolume(repository, { name, location: ws.at('disk.img'), domain: 'templates', bandBytes: BAND_256K }, { pool, catalog });
  writeParts(ws.at('disk.img'), 4 * BAND_256K, [{ at: 0, bytes: fill('disk', 3 * BAND_256K) }]);
  await sync('template');
  const [band = ''] = (await openNamed(repository, 'template')).bandPaths(1, 1);
  useUpLinks(ws, band);
  t.like(await sync('clone'), { writtenBands: 0, sharedBands: 3 });
  const [copy = ''] = (await openNamed(repository, 'clone')).bandPaths(1, 1);
  t.not(lstatSync(copy).ino, lstatSync(band).ino);
  await restoreSession({ session: await openNamed(repository, 'clone'), target: ws.at('restored.img'), pool });
  t.is(firstWrongByte(ws.at('restored.img'), ws.at('disk.img')), undefined);
  t.deepEqual((await checkRepository(repository, { pool, withData: true })).findings, []);
});
