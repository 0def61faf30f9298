/** kill -9 before each change that a repair, or a sync that heals, makes: old state or new, and the next run finishes. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { type RepairScene, repairScene } from '../src/repair/repair-scene.ts';
import { bandFile, cut, flip } from '../support/damage.ts';
import { incomingFiles } from '../support/processes.ts';
import { damagedTitles, recover } from '../support/recover.ts';
import { sh } from '../support/workspace.ts';

const DYING = fileURLToPath(new URL('../support/dying-repair.js', import.meta.url));
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Every fourth change is enough to meet each kind of step. */
const STRIDE = 4;

async function damage(at: RepairScene): Promise<void> {
  const [first, second, third] = await Promise.all(at.ids.map((id) => at.session('disk', id)));
  if (first === undefined || second === undefined || third === undefined) throw new Error('three sessions');
  flip(bandFile(third, 5));
  cut(bandFile(third, 6));
  for (const session of [first, second, third]) rmSync(bandFile(session, 7));
  flip(first.pagePath(0));
  flip(path.join(third.directory, 'bitmap'), 33);
}

/** A repository that was damaged is put back to that state, and the program killed before its n-th change, for n = first, first + STRIDE, … */
async function killEverywhere(
  t: ExecutionContext,
  at: RepairScene,
  args: readonly string[],
  first: number,
  finish: () => Promise<void>,
): Promise<number> {
  sh('cp', '-a', at.repo, at.at('damaged'));
  let kills = 0;
  for (let n = first; ; n += STRIDE) {
    rmSync(at.repo, { recursive: true });
    sh('cp', '-a', at.at('damaged'), at.repo);
    const { signal, status, stderr } = spawnSync(process.execPath, [DYING, args[0] ?? '', at.repo, String(n), ...args.slice(1)], {
      encoding: 'utf8',
    });
    if (signal === null) {
      t.is(status, 0, stderr);
      return kills;
    }
    kills++;
    await finish();
  }
}

test.serial('a repair from a copy that is killed anywhere is finished by the next', async (t) => {
  const at = await repairScene(t, pool);
  const copy = await at.copy();
  await damage(at);
  const kills = await killEverywhere(t, at, ['repair', copy.layout.root], 1, async () => {
    const { check, listedBands } = await at.repair({ copy, withData: false });
    t.deepEqual([check.findings, listedBands], [[], 0]);
    t.deepEqual(incomingFiles(at.repo), []);
    await at.verifyAll();
  });
  t.log(`${kills} kills`);
  t.true(kills >= 10);
});

test.serial('a sync that is killed anywhere while it heals leaves each band damaged or whole, and the next heals the rest', async (t) => {
  const at = await repairScene(t, pool);
  await damage(at);
  t.is((await at.repair()).listedBands, 3);
  const kills = await killEverywhere(t, at, ['sync'], 2, async () => {
    const before = (await at.check()).findings;
    t.true(before.every(({ code }) => code === 'BAND_CORRUPT' || code === 'BAND_MISSING'));
    const listed = (await at.list()).length;
    t.like(await at.sync('disk'), { status: 'unchanged', healedBands: listed, warnings: [] });
    t.deepEqual(await at.list(), []);
    t.deepEqual((await at.check()).findings, []);
    await at.verifyAll();
  });
  t.log(`${kills} kills`);
  t.true(kills >= 5);
});

test.serial('the reader without Timeband agrees before and after, and knows nothing of the list', async (t) => {
  const at = await repairScene(t, pool);
  await damage(at);
  const { layout } = await at.repository.volume('disk');
  const repaired = await at.json('check', '--repair', '--data');
  t.like(repaired.repair, { dryRun: false, mendedBands: 0, listedBands: 3 });
  t.is(repaired.damaged.length, 3);
  t.true(existsSync(layout.damaged));
  const verify = await recover(at, ['verify', at.repo]);
  t.is(verify.status, 3);
  t.deepEqual(
    damagedTitles(verify),
    at.ids.map((id) => `disk@${id}`),
  );
  t.is((await at.cli('check', '--no-key')).status, 3, 'the list itself is no finding');
  const refused = await at.cli('restore', 'disk', at.at('out.img'));
  t.is(refused.status, 13);
  t.regex(refused.stderr, /damaged at bytes 1310720-2097151: .*Nothing was written/);
  t.regex((await at.cli('diff', 'disk@latest~1', 'disk@latest')).stderr, /damaged in one of the two: bytes 1310720-2097151/);
  t.regex(await at.ok('sync', 'disk'), /nothing changed.*3 damaged band\(s\) of earlier sessions healed/);
  t.false(existsSync(layout.damaged));
  t.is((await recover(at, ['verify', at.repo])).status, 0);
  t.is((await at.cli('check', '--no-key')).status, 0);
  t.regex(await at.ok('check', '--repair', '--dry-run'), /^No damage found/);
  t.deepEqual(readFileSync(at.at('disk.img')), readFileSync(at.at(`${at.ids[2]}.img`)));
});
