/** Prune: the rules applied to real sessions, room made from the oldest, and what it never touches. */
import { readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { changeLabels } from '../../../src/labels.ts';
import { type PruneRequest, planPrune } from '../../../src/retention/prune.ts';
import { fill } from '../../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../../support/library.ts';
import { onTerminal } from '../../support/pty.ts';
import { PASSPHRASE } from '../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 10, 1, 12);
const RULES: PruneRequest = {
  rules: { keepLast: 2, keepTags: ['milestone'] },
  minFreeBytes: undefined,
  options: { nowMs: START_MS + 9 * DAY_MS, timeZone: 'utc' },
};

/** A session a day, of one changed band each. */
async function daily(at: Lab, name: string, days: number): Promise<string[]> {
  const image = at.at(`${name}.img`);
  const ids: string[] = [];
  for (let day = 0; day < days; day++) {
    writeFileSync(image, fill(`${name} ${day}`, 4 * BAND_256K));
    const { session } = await at.sync(name, image, {}, { nowMs: () => START_MS + day * DAY_MS });
    ids.push(session ?? '');
  }
  return ids;
}

async function plan(at: Lab, request: PruneRequest): Promise<{ readonly deleted: string[]; readonly hasRoom: boolean; readonly reasons: string[] }> {
  const { volumes } = await at.repository.listVolumes();
  const { sessions, hasRoom } = await planPrune(at.repository, volumes, request);
  const deleted = sessions.filter(({ action }) => action === 'delete');
  return { deleted: deleted.map(({ volume, id }) => `${volume.name}@${id}`), hasRoom, reasons: deleted.flatMap(({ reasons }) => reasons) };
}

test.serial('rules are applied to each volume by itself; tags, protection and what cannot be read keep a session', async (t) => {
  const at = await lab(t, pool);
  const [a, b] = [await daily(at, 'a', 5), await daily(at, 'b', 3)];
  t.deepEqual((await plan(at, RULES)).deleted, [...a.slice(0, 3).map((id) => `a@${id}`), `b@${b[0]}`]);
  const volume = await at.repository.volume('a');
  await changeLabels(at.repository, { volume, sessionId: a[0] ?? '' }, (labels) => ({ ...labels, tags: ['milestone'] }));
  await changeLabels(at.repository, { volume, sessionId: a[1] ?? '' }, (labels) => ({ ...labels, isProtected: true }));
  writeFileSync(`${volume.sessionPath(a[2] ?? '')}/labels`, 'damaged');
  t.deepEqual((await plan(at, RULES)).deleted, [`b@${b[0]}`]);
});

test.serial(
  'room is made from the oldest of all volumes; the newest of each and the protected stay, and that it does not suffice is told',
  async (t) => {
    const at = await lab(t, pool);
    const [a, b] = [await daily(at, 'a', 4), await daily(at, 'b', 2)];
    const volume = await at.repository.volume('a');
    await changeLabels(at.repository, { volume, sessionId: a[1] ?? '' }, (labels) => ({ ...labels, isProtected: true }));
    const all = await plan(at, { ...RULES, rules: undefined, minFreeBytes: Number.MAX_SAFE_INTEGER });
    t.false(all.hasRoom);
    t.deepEqual(all.deleted.toSorted(), [`a@${a[0]}`, `a@${a[2]}`, `b@${b[0]}`]);
    const none = await plan(at, { ...RULES, rules: undefined, minFreeBytes: 1 });
    t.deepEqual(none, { deleted: [], hasRoom: true, reasons: [] });
  },
);

test.serial('a session that was protected, or got a tag that is kept, while the question stood, is not deleted', async (t) => {
  for (const change of [{ isProtected: true }, { tags: ['milestone'] }]) {
    const at = await lab(t, pool);
    const [first = '', second = '', third = ''] = await daily(at, 'a', 4);
    const volume = await at.repository.volume('a');
    const pty = onTerminal(t, at, 'prune --keep-last 1 --keep-tag milestone');
    await pty.answer(/Passphrase: /, 1, `${PASSPHRASE}\r`);
    while (!pty.shown().includes('Delete?')) await sleep(5);
    await changeLabels(at.repository, { volume, sessionId: second }, (labels) => ({ ...labels, ...change }));
    await pty.answer(/Delete\? /, 1, 'y\r');
    t.is(await pty.status(), 11, pty.shown());
    t.deepEqual((await volume.sessionIds()).slice(0, 3), [first, second, third]);
    t.is((await at.json('prune', '--keep-last', '1', '--keep-tag', 'milestone', '--yes')).status, 'pruned');
    t.is((await volume.sessionIds())[0], second);
  }
});

test.serial('the command shows why, does nothing in a dry run, refuses to guess, and deletes what it said', async (t) => {
  const at = await lab(t, pool);
  const ids = await daily(at, 'a', 5);
  const dry = await at.json('prune', '--keep-last', '2', '--dry-run');
  const doomed = dry.sessions.filter(({ action }: { action: string }) => action === 'delete').map(({ session }: { session: string }) => session);
  t.deepEqual(doomed, ids.slice(0, 3));
  t.is((await at.cli('prune')).status, 2, 'no rule');
  t.is((await at.cli('prune', '--keep-last', '2')).status, 2, 'nobody to ask');
  t.is((await at.cli('prune', '--keep-last', 'x', '--yes')).status, 2);
  const volume = await at.repository.volume('a');
  t.deepEqual(await volume.sessionIds(), ids);
  t.is((await at.json('prune', '--keep-last', '2', '--yes')).status, 'pruned');
  t.deepEqual(await volume.sessionIds(), ids.slice(3));
  t.deepEqual(readdirSync(`${at.repo}/trash`), []);
  t.is((await at.cli('check', '--data')).status, 0);
  writeFileSync(`${volume.sessionPath(ids[3] ?? '')}/labels`, 'damaged');
  const { status, stderr } = await at.cli('prune', '--keep-last', '1', '--yes');
  t.is(status, 3, 'one that may be protected was kept');
  t.regex(stderr, /labels/);
  t.deepEqual(await volume.sessionIds(), ids.slice(3));
});
