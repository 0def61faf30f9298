/** diff: what differs between two sessions, also where the chain between them is broken. */
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkSameVolume, diffSessions, type SessionDiff } from '../../src/diff.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Sessions of a volume of ten bands; each step names the bands that get new content. */
async function sessionsOf(t: ExecutionContext, steps: readonly (readonly number[])[]): Promise<{ at: Lab; ids: string[] }> {
  const at = await lab(t, pool);
  const ids: string[] = [];
  for (const [step, bands] of steps.entries()) {
    const parts = bands.map((i) => ({ at: i * BAND_256K + 7, bytes: fill(`${step} ${i}`, 100) }));
    writeParts(at.at('disk.img'), 10 * BAND_256K, parts);
    ids.push((await at.sync('disk', at.at('disk.img'))).session ?? '');
  }
  return { at, ids };
}

async function bandsBetween(at: Lab, from = '', to = ''): Promise<number[]> {
  const diff: SessionDiff = await diffSessions(await at.repository.volume('disk'), from, to);
  return diff.ranges.flatMap(({ offset, length }) => Array.from({ length: length / BAND_256K }, (_, i) => offset / BAND_256K + i));
}

test('diff adds up what the sessions in between changed, in both directions', async (t) => {
  const { at, ids } = await sessionsOf(t, [[0, 1, 5], [1], [2, 3], [9]]);
  const [a, b, c, d] = ids;
  t.deepEqual(await bandsBetween(at, a, b), [1]);
  t.deepEqual(await bandsBetween(at, a, c), [1, 2, 3]);
  t.deepEqual(await bandsBetween(at, a, d), [1, 2, 3, 9]);
  t.deepEqual(await bandsBetween(at, d, a), [1, 2, 3, 9]);
  t.deepEqual(await bandsBetween(at, b, d), [2, 3, 9]);
  t.deepEqual(await bandsBetween(at, c, c), []);
});

test('a change that was undone is no difference', async (t) => {
  const { at, ids } = await sessionsOf(t, [[4], [5]]);
  writeParts(at.at('disk.img'), 10 * BAND_256K, [{ at: 5 * BAND_256K, bytes: new Uint8Array(BAND_256K) }]);
  const last = await at.sync('disk');
  t.deepEqual(await bandsBetween(at, ids[0], last.session), []);
  t.deepEqual(await bandsBetween(at, ids[1], last.session), [5]);
});

test('with a session in between deleted, the indexes alone tell', async (t) => {
  const { at, ids } = await sessionsOf(t, [[0], [1], [2], [3]]);
  rmSync((await at.session('disk', ids[1])).directory, { recursive: true });
  t.deepEqual(await bandsBetween(at, ids[0], ids[3]), [1, 2, 3]);
  t.deepEqual(await bandsBetween(at, ids[0], ids[2]), [1, 2]);
});

test('with a session in between damaged, the indexes alone tell', async (t) => {
  for (const record of ['manifest', 'bitmap']) {
    const { at, ids } = await sessionsOf(t, [[0], [1], [2], [3]]);
    writeFileSync(path.join((await at.session('disk', ids[1])).directory, record), 'damaged');
    t.deepEqual(await bandsBetween(at, ids[0], ids[3]), [1, 2, 3], record);
  }
});

test('sizes that differ are told, and the end of the larger one bounds the ranges', async (t) => {
  const at = await lab(t, pool);
  writeParts(at.at('disk.img'), 2 * BAND_256K + 512, [{ at: 0, bytes: fill('a', 2 * BAND_256K + 512) }]);
  const first = await at.sync('disk', at.at('disk.img'));
  writeParts(at.at('disk.img'), 3 * BAND_256K + 1024, [{ at: 3 * BAND_256K, bytes: fill('b', 1024) }]);
  const second = await at.sync('disk');
  const diff = await diffSessions(await at.repository.volume('disk'), first.session ?? '', second.session ?? '');
  t.like(diff, { fromBytes: 2 * BAND_256K + 512, toBytes: 3 * BAND_256K + 1024, differentBytes: 1024 });
  t.deepEqual(diff.ranges, [{ offset: 3 * BAND_256K, length: 1024 }]);
});

test('a session that is not there is not guessed at; two volumes are not compared', async (t) => {
  const { at, ids } = await sessionsOf(t, [[0]]);
  const volume = await at.repository.volume('disk');
  t.is(await codeOf(() => diffSessions(volume, ids[0] ?? '', '20200101T000000.000Z')), 'RECORD_MISSING');
  t.is(await codeOf(() => checkSameVolume('a', 'b')), 'USAGE');
  t.is((await at.cli('diff', 'disk@latest', 'other@latest')).status, 2);
  t.is((await at.cli('diff', 'disk@latest', 'disk')).status, 2);
  t.is((await at.cli('diff', 'disk@latest', 'disk@latest')).status, 0);
});
