/** The rollback guard: sessions that this machine has seen cannot go away, or turn into others, unnoticed. */
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Catalog } from '../../src/catalog.ts';
import { deleteSessions } from '../../src/deletion/delete-sessions.ts';
import { Repository } from '../../src/repository.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, codeOf, lab } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { PASSPHRASE, sh, type Workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

function change(ws: Workspace, label: string): void {
  writeParts(ws.at('disk.img'), 4 * BAND_256K, [{ at: 0, bytes: fill(label, 512) }]);
}

/** Two sessions that the commands' catalog has seen; a copy of the repository from between them is kept. */
async function twoSessions(t: ExecutionContext): Promise<Workspace> {
  const at = await lab(t, pool);
  await using catalog = new Catalog(at.at('state'), at.repository.id, t.fail);
  change(at, 'one');
  await at.sync('disk', at.at('disk.img'), {}, { catalog });
  sh('cp', '-a', at.repo, at.at('older'));
  change(at, 'two');
  await at.sync('disk', undefined, {}, { catalog });
  change(at, 'three');
  return at;
}

function sessionsFolder(ws: Workspace): string {
  const [volume = ''] = readdirSync(path.join(ws.repo, 'volumes'));
  return path.join(ws.repo, 'volumes', volume, 'sessions');
}

const LOSSES: readonly { readonly what: string; readonly lose: (ws: Workspace) => void; readonly left: number }[] = [
  {
    what: 'the newest session is removed',
    lose: (ws) => rmSync(path.join(sessionsFolder(ws), readdirSync(sessionsFolder(ws)).at(-1) ?? ''), { recursive: true }),
    left: 1,
  },
  {
    what: 'all sessions are removed',
    lose: (ws) => {
      for (const name of readdirSync(sessionsFolder(ws))) rmSync(path.join(sessionsFolder(ws), name), { recursive: true });
    },
    left: 0,
  },
  {
    what: 'an older copy of the repository is put in its place',
    lose: (ws) => {
      renameSync(ws.repo, ws.at('newer'));
      renameSync(ws.at('older'), ws.repo);
    },
    left: 1,
  },
];

for (const { what, lose, left } of LOSSES) {
  test.serial(`after ${what} sync refuses (13) and changes nothing, check says so (3), and --accept-rollback goes on`, async (t) => {
    const ws = await twoSessions(t);
    lose(ws);
    const refused = await ws.cli('sync', 'disk', '--json');
    t.is(refused.status, 13, refused.stderr);
    t.is(JSON.parse(refused.stdout).error.code, 'ROLLBACK_DETECTED');
    t.is((await ws.cli('sync', `disk=${ws.at('disk.img')}`)).status, 13);
    t.is(readdirSync(sessionsFolder(ws)).length, left);
    const check = await ws.cli('check', '--json');
    t.is(check.status, 3);
    t.is(JSON.parse(check.stdout).findings[0].code, 'ROLLBACK_DETECTED');
    if (left > 0) t.regex((await ws.cli('restore', 'disk', ws.at('out.img'))).stderr, /warning/);
    t.is((await ws.cli('sync', `disk=${ws.at('disk.img')}`, '--accept-rollback', '--dry-run')).status, 0);
    t.is((await ws.cli('sync', `disk=${ws.at('disk.img')}`)).status, 13, 'a dry run accepts nothing');
    t.is((await ws.cli('sync', `disk=${ws.at('disk.img')}`, '--accept-rollback')).status, 0);
    t.is((await ws.cli('sync', 'disk')).status, 0, 'accepted once, it is not asked again');
    t.is((await ws.cli('check')).status, 0);
  });
}

test.serial('a newest session that another one of the same time replaced is noticed', async (t) => {
  const at = await lab(t, pool);
  await using catalog = new Catalog(at.at('state'), at.repository.id, t.fail);
  const nowMs = (): number => Date.UTC(2026, 10, 21, 10);
  change(at, 'one');
  await at.sync('disk', at.at('disk.img'), {}, { nowMs });
  sh('cp', '-a', at.repo, at.at('older'));
  change(at, 'two');
  const seen = await at.sync('disk', undefined, {}, { catalog, nowMs });
  sh('rm', '-r', at.repo);
  renameSync(at.at('older'), at.repo);
  change(at, 'three');
  const other = await at.sync('disk', undefined, {}, { nowMs });
  t.is(other.session, seen.session);
  t.is(await codeOf(() => at.sync('disk', undefined, {}, { catalog })), 'ROLLBACK_DETECTED');
});

test.serial('a newer session that another machine made is no rollback', async (t) => {
  const ws = await twoSessions(t);
  t.is((await ws.cliIn({ TIMEBAND_STATE_DIR: ws.at('another machine') }, 'sync', 'disk')).status, 0);
  change(ws, 'four');
  t.is((await ws.cli('sync', 'disk')).status, 0);
  t.is((await ws.cli('check')).status, 0);
});

test.serial('a newest session whose manifest cannot be read is damaged, which is no rollback', async (t) => {
  const ws = await twoSessions(t);
  const newest = readdirSync(sessionsFolder(ws)).sort().at(-1) ?? '';
  writeFileSync(path.join(sessionsFolder(ws), newest, 'manifest'), 'no manifest');
  const { status, stdout } = await ws.cli('check', '--json');
  const { findings } = JSON.parse(stdout) as { readonly findings: readonly { readonly code: string; readonly session: string | null }[] };
  t.is(status, 3);
  t.deepEqual([...new Set(findings.map(({ code, session }) => `${code} ${session}`))], [`RECORD_CORRUPT ${newest}`]);
});

test.serial('a clock that was set back names the session 1 ms after its base, and warns', async (t) => {
  const at = await lab(t, pool);
  change(at, 'one');
  const first = await at.sync('disk', at.at('disk.img'), {}, { nowMs: () => Date.UTC(2026, 10, 21, 10) });
  change(at, 'two');
  const second = await at.sync('disk', undefined, {}, { nowMs: () => Date.UTC(2020, 0, 1) });
  t.is(first.session, '20261121T100000.000Z');
  t.is(second.session, '20261121T100000.001Z');
  t.is(second.warnings.length, 1);
});

test.serial('a deletion of the newest session that is killed at its commit is no rollback', async (t) => {
  const at = await twoSessions(t);
  class Dying extends Catalog {
    override rememberNewest(): Promise<void> {
      return Promise.reject(new Error('killed'));
    }
  }
  const repository = await Repository.open(at.repo, { passphrase: PASSPHRASE });
  t.teardown(() => repository.close());
  const volume = await repository.volume('disk');
  await using catalog = new Dying(at.at('state'), repository.id, t.fail);
  const newest = await volume.resolve('latest');
  await t.throwsAsync(deleteSessions(repository, volume, [newest], { command: 'delete disk', evenNewest: true, catalog }));
  const { status, stderr } = await at.cli('sync', 'disk');
  t.is(status, 0, stderr);
});
