/** Locks: who holds one, what becomes of it when the holder is gone, and that no two are ever inside. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { TimebandError } from '../../bands/errors.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { currentProcess } from '../../src/host.ts';
import { breakLocks, Lock, type LockHolder } from '../../src/locks.ts';
import { codeOf, lab, makeFastRepository } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { type Ended, incomingFiles, signalWhen } from '../support/processes.ts';
import { sh, type Workspace, workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const REQUEST = { scope: 'abc', what: 'volume "disk"', command: 'sync disk' } as const;

function holder(change: Partial<LockHolder> = {}): LockHolder {
  return { ...currentProcess(), command: 'sync disk', since: '2026-11-21T10:00:00.000Z', ...change };
}

function plant(directory: string, content: LockHolder | string, name = 'abc.0123456789abcdef.json'): void {
  writeFileSync(`${directory}/${name}`, typeof content === 'string' ? content : JSON.stringify(content));
}

/** Starts a sync and stops its process in the middle; one that was done before is started again with everything changed. */
async function startStopped(ws: Workspace): Promise<{ readonly child: ChildProcess; readonly end: Promise<Ended> }> {
  for (let round = 1; ; round++) {
    writeParts(ws.at('one.img'), 100_663_296, [{ at: 0, bytes: new Uint8Array(100_663_296).fill(round) }]);
    const child = ws.start('sync', `one=${ws.at('one.img')}`);
    const end = signalWhen(child, 'SIGSTOP', () => incomingFiles(ws.repo).length > 4);
    while (child.exitCode === null && !isStopped(child.pid)) await turn();
    if (child.exitCode === null) return { child, end };
  }
}

function isStopped(pid = 0): boolean {
  try {
    return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false; // it is gone
  }
}

/** The pid of a process that has ended. */
async function endedPid(): Promise<number> {
  const child = spawn('/bin/true');
  await new Promise((resolve) => child.once('exit', resolve));
  return child.pid ?? 0;
}

test('a lock that is held is refused with the process and command of its holder; released, it can be taken', async (t) => {
  const directory = workspace(t).folder('locks');
  const lock = await Lock.acquire(directory, { ...REQUEST, command: 'restore something' });
  const error = await t.throwsAsync(() => Lock.acquire(directory, REQUEST), { instanceOf: TimebandError, code: 'LOCKED' });
  t.regex(error?.message ?? '', new RegExp(`process ${process.pid} .*restore something`));
  await lock.release();
  t.deepEqual(readdirSync(directory), []);
  await (await Lock.acquire(directory, REQUEST)).release();
});

test('a lock whose file cannot be removed when it is released keeps out others, but not the process that held it', async (t) => {
  const directory = workspace(t).folder('locks');
  const lock = await Lock.acquire(directory, REQUEST);
  const file = path.join(directory, readdirSync(directory)[0] ?? '');
  sh('chattr', '+i', file);
  t.teardown(() => existsSync(file) && sh('chattr', '-i', file));
  await lock.release();
  t.true(existsSync(file));
  const again = await Lock.acquire(directory, REQUEST);
  sh('chattr', '-i', file);
  await again.release();
  await (await Lock.acquire(directory, REQUEST)).release();
  t.deepEqual(readdirSync(directory), [], 'the next one has removed it');
});

test('locks of two volumes are held side by side', async (t) => {
  const directory = workspace(t).folder('locks');
  await using _one = await Lock.acquire(directory, { ...REQUEST, scope: 'one' });
  await using _two = await Lock.acquire(directory, { ...REQUEST, scope: 'two' });
  t.is(readdirSync(directory).length, 2);
});

const GONE: readonly { readonly what: string; readonly change: () => Promise<Partial<LockHolder>> }[] = [
  { what: 'a process that ended', change: async () => ({ pid: await endedPid(), startTicks: '1' }) },
  { what: 'a process whose pid another has now', change: () => Promise.resolve({ startTicks: '1' }) },
  { what: 'a process from before the last boot', change: () => Promise.resolve({ bootId: 'another-boot' }) },
];

for (const { what, change } of GONE) {
  test(`the lock of ${what} is taken over and its file removed`, async (t) => {
    const directory = workspace(t).folder('locks');
    plant(directory, holder(await change()));
    const lock = await Lock.acquire(directory, REQUEST);
    t.is(readdirSync(directory).length, 1);
    await lock.release();
    t.deepEqual(readdirSync(directory), []);
  });
}

test('what a taker that was killed left half written is removed by the next; what nobody can judge, by break-lock', async (t) => {
  const directory = workspace(t).folder('locks');
  plant(directory, holder({ pid: await endedPid(), startTicks: '1' }), '.tmp-0123456789abcdef');
  plant(directory, '{"pid":', '.tmp-fedcba9876543210');
  await (await Lock.acquire(directory, REQUEST)).release();
  t.deepEqual(readdirSync(directory), ['.tmp-fedcba9876543210']);
  await breakLocks(directory);
  t.deepEqual(readdirSync(directory), []);
});

const UNKNOWN: readonly { readonly what: string; readonly plant: (directory: string) => void }[] = [
  { what: 'another machine', plant: (directory) => plant(directory, holder({ host: 'elsewhere/01234567' })) },
  { what: 'another container', plant: (directory) => plant(directory, holder({ pidNamespace: 'pid:[1]' })) },
  { what: 'nobody, with an empty file', plant: (directory) => plant(directory, '') },
  { what: 'nobody, with a file that is no JSON', plant: (directory) => plant(directory, '{"pid":') },
  { what: 'nobody, with a field missing', plant: (directory) => plant(directory, '{"pid":1}') },
  { what: 'nobody, with a link in its place', plant: (directory) => symlinkSync('/nowhere', `${directory}/abc.0.json`) },
  { what: 'nobody, with a folder in its place', plant: (directory) => mkdirSync(`${directory}/abc.0.json`) },
];

for (const { what, plant: make } of UNKNOWN) {
  test(`a lock of ${what} counts as held, says how to break it, and break-lock removes it`, async (t) => {
    const directory = workspace(t).folder('locks');
    make(directory);
    const error = await t.throwsAsync(() => Lock.acquire(directory, REQUEST), { instanceOf: TimebandError, code: 'LOCKED' });
    t.regex(error?.message ?? '', /timeband break-lock/);
    t.is(readdirSync(directory).length, 1, 'the one who stepped back leaves nothing');
    t.like(await breakLocks(directory), { kept: [], removed: { length: 1 } });
    t.deepEqual(readdirSync(directory), []);
    await (await Lock.acquire(directory, REQUEST)).release();
  });
}

test("break-lock keeps a running process's lock and removes the others", async (t) => {
  const directory = workspace(t).folder('locks');
  await using _lock = await Lock.acquire(directory, REQUEST);
  plant(directory, holder({ host: 'elsewhere/01234567' }), 'other.0.json');
  plant(directory, holder({ startTicks: '1' }), 'gone.0.json');
  const { kept, removed } = await breakLocks(directory);
  t.is(kept.length, 1);
  t.is(kept[0]?.holder?.pid, process.pid);
  t.is(removed.length, 2);
  t.is(readdirSync(directory).length, 1);
});

test('eight processes that contend for a lock are never inside at the same time, and all get their turn', async (t) => {
  const ws = workspace(t);
  const program = fileURLToPath(new URL('./lock-contender.js', import.meta.url));
  const args = [program, ws.folder('locks'), ws.at('marker'), '6'];
  const runs = Array.from({ length: 8 }, () => promisify(execFile)(process.execPath, args));
  for (const { stdout } of await Promise.all(runs)) t.is(stdout, 'done');
  t.deepEqual(readdirSync(ws.at('locks')), []);
});

test.serial('the command line: 11 and the holder for a lock that runs, break-lock keeps it (3); one of another host is broken (0)', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  writeParts(ws.at('disk.img'), 1_048_576);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  const [id = ''] = readdirSync(`${ws.repo}/volumes`);
  const lock = await Lock.acquire(`${ws.repo}/locks`, { scope: id, what: 'it', command: 'a test' });
  const { status, stderr } = await ws.cli('sync', 'disk');
  t.is(status, 11);
  t.regex(stderr, new RegExp(`process ${process.pid} `));
  t.is((await ws.cli('break-lock')).status, 3);
  t.is((await ws.cli('sync', 'disk')).status, 11);
  await lock.release();
  plant(`${ws.repo}/locks`, holder({ host: 'elsewhere/01234567' }), `${id}.0.json`);
  t.is((await ws.cli('sync', 'disk')).status, 11);
  t.is((await ws.cli('break-lock')).status, 0);
  t.is((await ws.cli('sync', 'disk')).status, 0);
});

test.serial('while one process syncs a volume, another is refused with its pid (11), and syncs of other volumes go on', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  const { child: first, end } = await startStopped(ws);
  writeParts(ws.at('two.img'), 1_048_576, [{ at: 0, bytes: new Uint8Array(512).fill(1) }]);
  const refused = await ws.cli('sync', `one=${ws.at('one.img')}`);
  t.is(refused.status, 11);
  t.regex(refused.stderr, new RegExp(`process ${first.pid} .*"sync"`));
  t.is((await ws.cli('sync', `two=${ws.at('two.img')}`)).status, 0);
  t.is((await ws.cli('check', '--data')).status, 0, 'what is under way is no damage');
  first.kill('SIGCONT');
  t.is((await end).status, 0);
  t.is((await ws.json('volumes')).volumes.length, 2);
});

test.serial('two volumes are synced at the same time by two processes', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  const names = ['one', 'two', 'three'];
  for (const [i, name] of names.entries()) writeParts(ws.at(name), 8_388_608, [{ at: 0, bytes: new Uint8Array(4_000_000).fill(i + 1) }]);
  const results = await Promise.all(names.map((name) => ws.cli('sync', `${name}=${ws.at(name)}`)));
  t.deepEqual(
    results.map(({ status }) => status),
    [0, 0, 0],
  );
  t.is((await ws.cli('check', '--data')).status, 0);
});

test('a first sync that finds its new volume locked leaves the work of whoever holds it alone', async (t) => {
  const at = await lab(t, pool);
  writeParts(at.at('disk.img'), 262_144, [{ at: 0, bytes: new Uint8Array(512).fill(1) }]);
  const volumes = `${at.repo}/volumes`;
  const syncing = codeOf(() => at.sync('disk', at.at('disk.img')));
  const made = (): string | undefined => readdirSync(volumes).find((name) => /^[0-9a-f]{32}$/.test(name));
  while (made() === undefined) await turn();
  const id = made() ?? '';
  plant(`${at.repo}/locks`, holder(), `${id}.0.json`);
  writeFileSync(`${volumes}/${id}/incoming/work`, 'of another sync');
  t.is(await syncing, 'LOCKED');
  t.is(readFileSync(`${volumes}/${id}/incoming/work`, 'utf8'), 'of another sync');
});
