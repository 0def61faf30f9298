/** Lists of sessions: the same with the catalog as without it, whatever was deleted, replaced or damaged meanwhile. */
import { copyFileSync, lstatSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Catalog } from '../../src/catalog.ts';
import { deleteSessions } from '../../src/deletion/delete-sessions.ts';
import { summarizeSessions } from '../../src/sessions.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** More than one index page. */
const BANDS = 600;

async function change(at: Lab, round: number): Promise<string> {
  const bands = [0, 1, 512 + round, 530, (round * 97) % BANDS];
  const bytes = fill(`round ${round}`, 3000);
  writeParts(
    at.at('disk.img'),
    BANDS * BAND_256K,
    bands.map((band) => ({ at: band * BAND_256K, bytes })),
  );
  return (await at.sync('disk', at.at('disk.img'))).session ?? '';
}

/** Bytes of the band files of session `id` that none of `others` has. */
function ownBytes(at: Lab, volume: string, id: string, others: readonly string[]): number {
  const files = (session: string): { ino: number; size: number }[] => {
    const folder = `${at.repo}/volumes/${volume}/sessions/${session}/bands`;
    return readdirSync(folder).map((name) => lstatSync(`${folder}/${name}`));
  };
  const theirs = new Set(others.flatMap((other) => files(other).map(({ ino }) => ino)));
  return files(id).reduce((sum, { ino, size }) => sum + (theirs.has(ino) ? 0 : size), 0);
}

async function verifyList(t: ExecutionContext, at: Lab, catalog: Catalog): Promise<void> {
  const volume = await at.repository.volume('disk');
  const ids = await volume.sessionIds();
  const plain = await summarizeSessions(volume, { withSizes: true });
  for (const [i, { sizes }] of plain.entries()) {
    const [before, id = '', after] = [ids.slice(Math.max(0, i - 1), i), ids[i], ids.slice(i + 1, i + 2)];
    t.deepEqual(sizes, {
      addedBytes: ownBytes(at, volume.id, id, before),
      freedBytes: ownBytes(at, volume.id, id, [...before, ...after]),
    });
  }
  const facts = (list: typeof plain): unknown =>
    list.map(({ manifest, ...rest }) => ({ ...rest, totals: manifest?.totals, base: manifest?.base?.sessionId }));
  for (const from of ['the files', 'the catalog'])
    t.deepEqual(facts(await summarizeSessions(volume, { catalog, withSizes: true })), facts(plain), `with a catalog, from ${from}`);
  t.deepEqual(
    (await summarizeSessions(volume, { catalog })).map(({ sizes }) => sizes),
    ids.map(() => undefined),
  );
}

test.serial('a list is the same from the catalog as from the files, after syncs and deletions', async (t) => {
  const at = await lab(t, pool);
  await using catalog = new Catalog(at.at('state'), at.repository.id, t.fail);
  const ids: string[] = [];
  for (let round = 0; round < 6; round++) {
    ids.push(await change(at, round));
    await verifyList(t, at, catalog);
  }
  const volume = await at.repository.volume('disk');
  for (const id of [ids[2], ids[0]]) {
    await deleteSessions(at.repository, volume, [id ?? ''], { command: 'delete disk' });
    await verifyList(t, at, catalog);
  }
});

test.serial('what the catalog keeps of a session counts for that manifest file only, and garbage is not kept to', async (t) => {
  const at = await lab(t, pool);
  await using catalog = new Catalog(at.at('state'), at.repository.id, t.fail);
  const ids = [await change(at, 0), await change(at, 1)];
  await verifyList(t, at, catalog);
  const volume = await at.repository.volume('disk');
  await catalog.rememberSessions(volume.id, new Map([[ids[0] ?? '', fill('garbage', 200)]]));
  await verifyList(t, at, catalog);
  const manifest = `${volume.sessionPath(ids[1] ?? '')}/manifest`;
  copyFileSync(manifest, at.at('manifest'));
  writeFileSync(manifest, 'damaged');
  const [first, second] = await summarizeSessions(volume, { catalog, withSizes: true });
  t.is(first?.sizes, undefined, 'what it shares with a damaged neighbour is not known');
  t.is(second?.manifest, undefined);
  t.regex(second?.problem ?? '', /manifest/);
  rmSync(manifest);
  copyFileSync(at.at('manifest'), manifest);
  await verifyList(t, at, catalog);
});
