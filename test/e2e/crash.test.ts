/** kill -9 at many moments of a sync or restore: the repository holds the sessions that it had, or those and the new one. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { restoreSession } from '../../src/restore.ts';
import { fill } from '../support/bytes.ts';
import { type Lab, lab } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { incomingFiles, signalWhen } from '../support/processes.ts';
import { sh } from '../support/workspace.ts';

const MIB = 1_048_576;
const BAND = 2 * MIB;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Gives bands of the image new content that does not compress; a few others become holes. */
function change(image: string, round: number): void {
  const sizeBytes = (64 + 8 * (round % 3)) * MIB;
  const bands = Array.from({ length: 9 }, (_, i) => (round * 7 + i * 4) % (sizeBytes / BAND));
  const noise = fill(`round ${round}`, BAND + bands.length);
  writeParts(
    image,
    sizeBytes,
    bands.map((band, i) => ({ at: band * BAND, bytes: noise.subarray(i, i + BAND) })),
  );
  const hole = ((round * 5) % (sizeBytes / BAND)) * BAND;
  sh('fallocate', '--punch-hole', '--offset', String(hole), '--length', String(BAND), image);
}

interface Kept {
  readonly id: string;
  readonly image: string;
}

async function verifySession(t: ExecutionContext, at: Lab, kept: Kept): Promise<void> {
  const target = at.at('restored.img');
  await restoreSession({ session: await at.session('disk', kept.id), target, pool });
  t.is(firstWrongByte(target, kept.image), undefined, `session ${kept.id}`);
  rmSync(target);
}

/** When the process is killed: after some time, or at a sight in incoming/. */
function moment(at: Lab, round: number): () => boolean {
  const start = performance.now();
  if (round % 3 === 0) return () => performance.now() - start > round * 18;
  if (round % 3 === 1) return () => incomingFiles(at.repo).filter((name) => name.includes('/bands/')).length > round % 10;
  const last = ['bands', 'index', 'bitmap', 'manifest', 'labels'][round % 5] ?? '';
  return () => incomingFiles(at.repo).some((name) => name.includes(`/${last}`));
}

test.serial('after kill -9 at any moment of a sync all sessions are whole, and the next sync succeeds and is right', async (t) => {
  const at = await lab(t, pool);
  const image = at.at('disk.img');
  const kept: Kept[] = [];
  const seen = { kills: 0, halves: 0, commits: 0 };
  const keep = async (): Promise<void> => {
    const [id] = (await (await at.repository.volume('disk')).sessionIds()).slice(-1);
    const copy = at.at(`${id}.img`);
    sh('cp', '--sparse=always', image, copy);
    kept.push({ id: id ?? '', image: copy });
  };
  for (let round = 0; round < 30; round++) {
    change(image, round);
    const { signal } = await signalWhen(at.start('sync', `disk=${image}`, '--tag', `r${round}`), 'SIGKILL', moment(at, round));
    if (signal === 'SIGKILL') seen.kills++;
    if (incomingFiles(at.repo).length > 0) seen.halves++;
    const { findings } = await checkRepository(at.repository, { pool, withData: true });
    t.deepEqual(findings, [], `round ${round}: check --data`);
    const volume = await at.repository.findVolume('disk');
    const ids = (await volume?.sessionIds()) ?? [];
    t.true(ids.length === kept.length || ids.length === kept.length + 1, `round ${round}: the old sessions, or one more`);
    t.deepEqual(
      ids.slice(0, kept.length),
      kept.map(({ id }) => id),
    );
    if (ids.length > kept.length) {
      seen.commits++;
      await keep();
    } else if (round % 4 !== 3) {
      const result = await at.cli('sync', `disk=${image}`);
      t.is(result.status, 0, result.stderr);
      await keep();
    }
    t.deepEqual(round % 4 === 3 ? [] : incomingFiles(at.repo), [], `round ${round}: incoming is emptied by the next sync`);
    const some = kept[round % Math.max(1, kept.length)];
    for (const one of [kept.at(-1), some]) if (one !== undefined) await verifySession(t, at, one);
  }
  for (const one of kept) await verifySession(t, at, one);
  t.true(seen.kills >= 10 && seen.halves >= 3, `most rounds hit a sync that was under way: ${JSON.stringify(seen)}`);
  t.is((await at.cli('check', '--data')).status, 0);
  t.is((await at.cli('check', '--no-key')).status, 0);
});

test.serial('a first sync that is killed leaves a repository in which the next one succeeds', async (t) => {
  const at = await lab(t, pool);
  const image = at.at('disk.img');
  change(image, 1);
  for (const isTime of [() => readdirSync(`${at.repo}/volumes`).length > 0, () => incomingFiles(at.repo).length > 4]) {
    await signalWhen(at.start('sync', `disk=${image}`), 'SIGKILL', isTime);
    t.is((await at.cli('check', '--no-key')).status, 0);
    t.is((await at.cli('volumes')).status, 0);
  }
  t.is((await at.cli('sync', `disk=${image}`)).status, 0);
  t.deepEqual(incomingFiles(at.repo), []);
  const [id = ''] = await (await at.repository.volume('disk')).sessionIds();
  await verifySession(t, at, { id, image });
});

test.serial('a restore that is killed leaves no file of the name that was asked for', async (t) => {
  const at = await lab(t, pool);
  const image = at.at('disk.img');
  const target = at.at('out', 'restored.img');
  change(image, 2);
  await at.sync('disk', image);
  at.folder('out');
  let hits = 0;
  for (let round = 0; round < 4; round++) {
    const isTime = (): boolean => readdirSync(at.at('out')).length > 0;
    const { signal } = await signalWhen(at.start('restore', 'disk', target), 'SIGKILL', isTime);
    if (signal === 'SIGKILL' && !existsSync(target)) hits++;
    if (existsSync(target)) t.is(firstWrongByte(target, image), undefined, 'a file of that name is whole');
    rmSync(target, { force: true });
    await sleep(0);
  }
  t.true(hits > 0, 'some restore was hit before its end');
  t.is((await at.cli('restore', 'disk', target)).status, 0);
  t.is(firstWrongByte(target, image), undefined);
});
