/** Key domains: what volumes share, what that costs, and what each of them keeps whatever becomes of the others. */
import { createHash, randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { readEntry, writeEntry } from '../../bands/format/index-page.ts';
import { manifestCodec } from '../../bands/format/manifest.ts';
import { RECORD_NONCE_BYTES, type RecordPlace, sealRecord } from '../../bands/format/record.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Catalog } from '../../src/catalog.ts';
import { checkRepository } from '../../src/check/check.ts';
import { copySessions } from '../../src/copy/copy.ts';
import { deleteSessions, deleteVolume } from '../../src/deletion/delete-sessions.ts';
import { TakenLinks } from '../../src/deletion/shared-files.ts';
import { planDeletion, sizesOfSession } from '../../src/deletion/sizes.ts';
import { repairRepository } from '../../src/repair/repair.ts';
import type { Repository } from '../../src/repository.ts';
import { restoreSession } from '../../src/restore.ts';
import { summarizeSessions } from '../../src/sessions.ts';
import { repositoryStats } from '../../src/stats.ts';
import type { SyncOptions, SyncResult } from '../../src/sync/request.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { fill } from '../support/bytes.ts';
import { secondRepository } from '../support/copies.ts';
import { BAND_256K, codeOf, type Lab, lab, openNamed } from '../support/library.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const BANDS = 12;
const DELETE = { command: 'delete' };

interface Scene extends Lab {
  readonly catalog: Catalog;
  /** Writes an image and syncs it into the domain "templates". */
  syncBytes(name: string, bytes: Uint8Array, options?: Partial<SyncOptions>): Promise<SyncResult>;
}

async function scene(t: ExecutionContext): Promise<Scene> {
  const at = await lab(t, pool);
  const catalog = new Catalog(at.at('catalog'), at.repository.id, (message) => t.fail(message));
  t.teardown(() => catalog.close());
  return {
    ...at,
    catalog,
    async syncBytes(name, bytes, options = {}) {
      writeFileSync(at.at(`${name}.img`), bytes);
      return await at.sync(name, at.at(`${name}.img`), { domain: 'templates', ...options }, { catalog });
    },
  };
}

/** Band files below a folder: sizes by inode. */
function bandFiles(root: string): Map<number, number> {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => /(^|\/)bands\/[^/]+$/.test(name));
  return new Map(names.map((name) => lstatSync(`${root}/${name}`)).map(({ ino, size }) => [ino, size]));
}

function bytesOf(files: ReadonlyMap<number, number>): number {
  return [...files.values()].reduce((sum, size) => sum + size, 0);
}

async function verify(
  t: ExecutionContext,
  repository: Repository,
  { at }: Pick<Lab, 'at'>,
  images: Readonly<Record<string, Uint8Array>>,
): Promise<void> {
  for (const [name, bytes] of Object.entries(images)) {
    const target = at('restored.img');
    await restoreSession({ session: await openNamed(repository, name), target, pool });
    t.is(Buffer.compare(readFileSync(target), bytes), 0, name);
    rmSync(target);
  }
  t.deepEqual((await checkRepository(repository, { pool, withData: true })).findings, []);
}

const template = fill('template', BANDS * BAND_256K);

/** The template with one band of its own. */
function clone(label: string, band: number): Uint8Array {
  const bytes = template.slice();
  bytes.set(fill(label, 1000), band * BAND_256K + 5000);
  return bytes;
}

test.serial('a clone of a template costs its own bands; both are whole, and outside of the domain nothing is shared', async (t) => {
  const at = await scene(t);
  t.is((await at.syncBytes('template', template)).writtenBands, BANDS);
  const before = bytesOf(bandFiles(at.repo));
  const mine = clone('mine', 3);
  const planned = await at.syncBytes('clone', mine, { isDryRun: true });
  t.deepEqual([planned.writtenBands, planned.sharedBands], [1, BANDS - 1], 'a dry run of a volume that is not there yet says so');
  const made = await at.syncBytes('clone', mine);
  t.deepEqual([made.writtenBands, made.sharedBands], [1, BANDS - 1]);
  t.is(bytesOf(bandFiles(at.repo)) - before, made.writtenBytes);
  const loner = await at.syncBytes('loner', mine, { domain: undefined });
  const stranger = await at.syncBytes('stranger', mine, { domain: 'others' });
  for (const { writtenBands, sharedBands } of [loner, stranger]) t.deepEqual([writtenBands, sharedBands], [BANDS, 0]);
  await verify(t, at.repository, at, { template, clone: mine, loner: mine, stranger: mine });
});

test.serial('what moves within a volume is found, too, and the volume that others were linked from can go', async (t) => {
  const at = await scene(t);
  await at.syncBytes('template', template);
  const mine = clone('mine', 3);
  await at.syncBytes('clone', mine);
  mine.copyWithin(0, 3 * BAND_256K, 5 * BAND_256K); // bands 0 and 1 become equal to 3 and 4
  const moved = await at.syncBytes('clone', mine);
  t.deepEqual([moved.changedBands, moved.writtenBands, moved.sharedBands], [2, 0, 2]);
  await deleteVolume(at.repository, await at.repository.volume('template'), DELETE);
  await verify(t, at.repository, at, { clone: mine });
  const again = await at.syncBytes('second', clone('mine', 3));
  t.deepEqual(
    [again.writtenBands, again.sharedBands],
    [2, BANDS - 2],
    'hints of the volume that is gone are replaced: only what no newest session holds is stored',
  );
});

test.serial('what a deletion frees, and what stats and sessions say, is what the disk says', async (t) => {
  const at = await scene(t);
  const images = [clone('a', 1), clone('b', 2), clone('c', 3)];
  await at.syncBytes('template', template);
  for (const name of ['one', 'two']) for (const bytes of images) await at.syncBytes(name, bytes);
  await at.syncBytes('two', clone('own', 4));
  const { volumes } = await repositoryStats(at.repository, at.catalog);
  t.is(
    volumes.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    bytesOf(bandFiles(at.repo)),
  );
  for (const [name, which] of [
    ['one', [0, 2]],
    ['two', [0, 1, 2]],
    ['one', [1]],
  ] as const) {
    const volume = await at.repository.volume(name);
    const before = bytesOf(bandFiles(at.repo));
    const ids = await volume.sessionIds();
    const doomed = which.map((i) => ids[i] ?? '').filter((id) => id !== '');
    const planned = await planDeletion(volume, doomed, new TakenLinks());
    const listed = (await summarizeSessions(volume, { catalog: at.catalog, withSizes: true })).find(({ session }) => session === doomed[0]);
    t.is(listed?.sizes?.freedBytes, planned[0]?.freedBytes);
    await deleteSessions(at.repository, volume, doomed, { ...DELETE, evenNewest: true });
    t.is(
      planned.reduce((sum, { freedBytes }) => sum + (freedBytes ?? 0), 0),
      before - bytesOf(bandFiles(at.repo)),
      `${name} ${which}`,
    );
  }
  await verify(t, at.repository, at, { template, two: clone('own', 4) });
});

test.serial('deletions of two volumes that are planned together free what only the two share', async (t) => {
  const at = await scene(t);
  await at.syncBytes('template', template);
  const mine = clone('shared by two', 5);
  for (const bytes of [mine, template]) for (const name of ['one', 'two']) await at.syncBytes(name, bytes);
  const taken = new TakenLinks();
  const freed: (number | undefined)[] = [];
  for (const name of ['one', 'two']) {
    const volume = await at.repository.volume(name);
    const [oldest = ''] = await volume.sessionIds();
    t.is((await sizesOfSession(volume, oldest))?.freedBytes, 0, 'alone it frees nothing');
    freed.push(...(await planDeletion(volume, [oldest], taken)).map(({ freedBytes }) => freedBytes));
  }
  const [file] = (await at.session('one', 'latest~1')).bandPaths(5, 1);
  t.deepEqual(freed, [0, lstatSync(file ?? '').size]);
});

test.serial('without its catalog a domain goes on, and the next sync gathers the hints again', async (t) => {
  const at = await scene(t);
  await at.syncBytes('template', template);
  const blind = await at.sync('blind', at.at('template.img'), { domain: 'templates' });
  t.deepEqual([blind.writtenBands, blind.warnings.length], [BANDS, 1]);
  await at.catalog.close();
  rmSync(at.at('catalog'), { recursive: true });
  const made = await at.syncBytes('clone', clone('mine', 0));
  t.deepEqual([made.writtenBands, made.sharedBands], [1, BANDS - 1]);
});

test.serial("a neighbour's damaged, missing or exchanged band file is not shared, and harms nobody", async (t) => {
  const at = await scene(t);
  await at.syncBytes('template', template);
  const [damaged = '', lost = '', exchanged = '', other = ''] = (await at.session('template')).bandPaths(0, 4);
  const bytes = readFileSync(damaged);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  writeFileSync(damaged, bytes);
  rmSync(lost);
  writeFileSync(exchanged, readFileSync(other));
  const made = await at.syncBytes('clone', template);
  t.deepEqual([made.writtenBands, made.sharedBands], [3, BANDS - 3]);
  const { findings } = await checkRepository(at.repository, { pool, withData: true });
  t.deepEqual([...new Set(findings.map(({ volume }) => volume))], ['template']);
  await restoreSession({ session: await at.session('clone'), target: at.at('out.img'), pool });
  t.is(Buffer.compare(readFileSync(at.at('out.img')), template), 0);
});

test.serial('a neighbour whose index lies, well sealed, is not believed: its file is proven against the bytes at hand', async (t) => {
  const at = await scene(t);
  await at.syncBytes('evil', fill('evil', 2 * BAND_256K));
  const evil = await at.session('evil');
  const { context, manifest, directory } = evil;
  const lie = new Uint8Array(await evil.readPage(0));
  const band = readEntry(lie, 0);
  if (band === undefined) throw new Error('no band');
  writeEntry(lie, 0, { ...band, digest: createHash('sha256').update(template.subarray(0, BAND_256K)).digest() });
  const reseal = (kind: 'page' | 'manifest', place: number | string, plain: Uint8Array): Uint8Array =>
    sealRecord(context.keys.recordsKey, { kind, volumeId: context.volumeId, at: place } as RecordPlace, {
      nonce: randomBytes(RECORD_NONCE_BYTES),
      plain,
    });
  const page = reseal('page', 0, lie);
  writeFileSync(evil.pagePath(0), page);
  const pageDigests = [createHash('sha256').update(page).digest()];
  writeFileSync(`${directory}/manifest`, reseal('manifest', evil.sessionId, manifestCodec.encode({ ...manifest, pageDigests })));
  const planned = await at.syncBytes('victim', template, { isDryRun: true });
  t.is(planned.sharedBands, 1, 'the lie is what a sync goes by');
  const made = await at.syncBytes('victim', template);
  t.deepEqual([made.writtenBands, made.sharedBands], [BANDS, 0]);
  await restoreSession({ session: await at.session('victim'), target: at.at('out.img'), pool });
  t.is(Buffer.compare(readFileSync(at.at('out.img')), template), 0);
});

test.serial('damage of a shared file shows in each volume; one that is mended gives it to the other', async (t) => {
  const at = await scene(t);
  await at.syncBytes('template', template);
  await at.syncBytes('clone', clone('mine', 3));
  const [file = ''] = (await at.session('clone')).bandPaths(7, 1);
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  const { findings } = await checkRepository(at.repository, { pool, withData: true });
  t.deepEqual(findings.map(({ volume }) => volume).sort(), ['clone', 'template']);
  const lists = await repairRepository(at.repository, { pool, withData: true });
  t.is(lists.listedBands, 2);
  const healing = await at.sync('template', at.at('template.img'), {}, { catalog: at.catalog });
  t.is(healing.healedBands, 1);
  const repaired = await repairRepository(at.repository, { pool, withData: true });
  t.deepEqual([repaired.mendedBands, repaired.listedBands], [1, 0]);
  await verify(t, at.repository, at, { template, clone: clone('mine', 3) });
  const [mended = ''] = (await at.session('template')).bandPaths(7, 1);
  t.is(lstatSync(mended).ino, lstatSync(file).ino, 'one file again');
});

for (const hasSameKeys of [true, false])
  test.serial(`a copy of a domain is whole, shares, and can be added to, under ${hasSameKeys ? 'the same keys' : 'others'}`, async (t) => {
    const at = await scene(t);
    const mine = clone('mine', 3);
    await at.syncBytes('template', template);
    await at.syncBytes('another', mine);
    const second = await secondRepository(t, at, { hasSameKeys });
    const targetCatalog = new Catalog(at.at('second-catalog'), second.id, (message) => t.fail(message));
    t.teardown(() => targetCatalog.close());
    const { sessions } = await copySessions(at.repository, second, { requests: undefined }, { pool, targetCatalog });
    t.deepEqual(
      sessions.map(({ volume, writtenBands, linkedBands }) => [volume, writtenBands, linkedBands]),
      [
        ['another', BANDS, 0],
        ['template', 1, BANDS - 1],
      ],
    );
    t.is(bandFiles(second.layout.root).size, BANDS + 1);
    t.is((await second.volume('another')).record.domain?.name, 'templates');
    const environment = { pool, catalog: targetCatalog };
    const added = await syncVolume(
      second,
      { name: 'third', location: at.at('template.img'), domain: 'templates', bandBytes: BAND_256K },
      environment,
    );
    t.deepEqual([added.writtenBands, added.sharedBands], [0, BANDS]);
    await verify(t, second, at, { template, another: mine, third: template });
  });

test.serial('a volume keeps to its domain', async (t) => {
  const at = await scene(t);
  await at.syncBytes('inside', template);
  await at.syncBytes('outside', template, { domain: undefined });
  t.is(await codeOf(() => at.syncBytes('inside', template, { domain: 'another' })), 'USAGE');
  t.is(await codeOf(() => at.syncBytes('outside', template)), 'USAGE');
  for (const domain of ['', '.x', 'a/b', 'x'.repeat(101)]) t.is(await codeOf(() => at.syncBytes('new', template, { domain })), 'USAGE');
  await at.repository.changeVolume(await at.repository.volume('inside'), (record) => ({ ...record, name: 'renamed' }));
  t.is((await at.syncBytes('renamed', template)).status, 'unchanged');
});

test.serial('two volumes of a domain are synced at the same time', async (t) => {
  const at = await scene(t);
  await at.syncBytes('template', template);
  const images = { one: clone('one', 1), two: clone('two', 2), three: clone('three', 3) };
  const made = await Promise.all(Object.entries(images).map(([name, bytes]) => at.syncBytes(name, bytes)));
  t.deepEqual(
    made.map(({ sharedBands }) => sharedBands),
    [BANDS - 1, BANDS - 1, BANDS - 1],
  );
  await verify(t, at.repository, at, { template, ...images });
});
