/**
 * What is tried on a real thin pool, in a virtual machine whose first disk is empty. Each scenario goes on with the pool,
 * the volume and the repository that those before it left.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { Repository } from '../../../src/repository.ts';
import { restoreSession } from '../../../src/restore.ts';
import { lvmThinDriver } from '../../../src/sources/lvm/lvm-thin-source.ts';
import { type LogicalVolume, LVS_ARGUMENTS, parseLvsReport } from '../../../src/sources/lvm/lvs-report.ts';
import { parseThinPoolStatus } from '../../../src/sources/lvm/pool-status.ts';
import { chooseSource } from '../../../src/sources/open-source.ts';
import type { SourceOwner } from '../../../src/sources/source.ts';
import type { SyncOptions, SyncResult } from '../../../src/sync/request.ts';
import { syncVolume } from '../../../src/sync/sync.ts';
import { makeFastRepository } from '../library.ts';
import { type Ended, ended, incomingFiles, signalWhen } from '../processes.ts';
import { PASSPHRASE } from '../workspace.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const ROOT = '/run/timeband-test';
const REPO = path.join(ROOT, 'repo');
const STATE = path.join(ROOT, 'state');
const WRAPPERS = path.join(ROOT, 'wrappers');
const VOLUME = '/dev/vg-a/vol-b';
const POOL_DEVICE = 'vg--a-pool--1-tpool';
const KIB = 1024;
const MIB = 1_048_576;
/** Made in the machine only: the test that names the scenarios has no use for it. */
let pool: BandPool | undefined;

function bandPool(): BandPool {
  pool ??= new BandPool();
  return pool;
}

/** Runs a program; throws with what it said if it fails. */
function sh(tool: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(tool, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${tool} ${args.join(' ')}: status ${status} ${error ?? ''} ${stderr}`);
  return stdout;
}

function lvm(...args: string[]): string {
  return sh('lvm', ...args);
}

function write(at: number, length: number, device = VOLUME): void {
  sh('dd', 'if=/dev/urandom', `of=${device}`, 'bs=4096', `seek=${at / 4096}`, `count=${length / 4096}`, 'conv=notrunc,fsync', 'status=none');
}

function discard(at: number, length: number): void {
  sh('blkdiscard', '--offset', String(at), '--length', String(length), VOLUME);
}

/** Keeps what the volume holds now, for a later comparison. */
function remember(name: string): void {
  lvm('lvcreate', '-y', '-q', '-s', '-kn', '-n', name, 'vg-a/vol-b');
}

function volumes(): LogicalVolume[] {
  return parseLvsReport(lvm(...LVS_ARGUMENTS, 'vg-a'));
}

/** The snapshots of ours. */
function kept(): LogicalVolume[] {
  return volumes().filter(({ tags }) => tags.includes('timeband'));
}

function heldRoot(): number | undefined {
  return parseThinPoolStatus(sh('dmsetup', 'status', POOL_DEVICE)).heldRoot;
}

/** What every sync must leave: one snapshot, bound and not active, and no metadata snapshot. */
function assertTidy(): void {
  const references = kept();
  assert.equal(references.length, 1, `kept: ${references.map(({ name, tags }) => `${name} (${tags.join(' ')})`).join(', ')}`);
  assert.ok(references[0]?.tags.some((tag) => tag.startsWith('timeband:session:')));
  assert.equal(references[0]?.isActive, false);
  assert.equal(references[0]?.isReadOnly, true);
  assert.equal(heldRoot(), undefined);
}

const ENV = { ...process.env, TIMEBAND_REPO: REPO, TIMEBAND_STATE_DIR: STATE, TIMEBAND_PASSPHRASE: PASSPHRASE };

async function cli(...args: string[]): Promise<Ended> {
  return await ended(spawn(process.execPath, [MAIN, ...args], { env: ENV, stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** One sync by the real command; its result. */
async function cliSync(...args: string[]): Promise<SyncResult> {
  const { status, stdout, stderr } = await cli('sync', ...args, '--json');
  assert.equal(status, 0, `sync ${args.join(' ')}: ${stderr}${stdout}`);
  const { results }: { results: SyncResult[] } = JSON.parse(stdout);
  assert.ok(results[0] !== undefined);
  return results[0];
}

/** One sync within this process, which is faster. */
async function librarySync(name: string, options: Partial<SyncOptions> = {}, root = REPO): Promise<SyncResult> {
  using repository = await Repository.open(root, { passphrase: PASSPHRASE });
  return await syncVolume(repository, { name, ...options }, { pool: bandPool(), stateDirectory: STATE });
}

/** A sync that reads everything and compares that with what the pool named as changed. */
async function auditedSync(name = 'disk'): Promise<SyncResult> {
  const result = await librarySync(name, { verifiesChanges: true, location: VOLUME });
  assert.equal(result.missedBands, 0);
  return result;
}

function assertKnown(result: SyncResult): void {
  assert.equal(result.source.kind, 'lvm-thin');
  assert.equal(result.missedBands, 0);
  assert.deepEqual(result.warnings, []);
}

function assertUnknown(result: SyncResult, reason: RegExp): void {
  assert.match(result.warnings.join('\n'), /^reading everything: /);
  assert.match(result.warnings.join('\n'), reason);
}

async function assertRestores(session: string | undefined, expected: string, root = REPO): Promise<void> {
  using repository = await Repository.open(root, { passphrase: PASSPHRASE });
  const volume = await repository.volume('disk');
  const target = path.join(ROOT, 'restored.img');
  await restoreSession({ session: await volume.openSession(await volume.resolve(session)), target, pool: bandPool() });
  sh('cmp', target, expected);
  rmSync(target);
}

async function ownerOf(name: string): Promise<SourceOwner> {
  using repository = await Repository.open(REPO, { passphrase: PASSPHRASE });
  return { repositoryId: repository.id, volumeId: (await repository.volume(name)).id };
}

async function makePool(): Promise<void> {
  mkdirSync(ROOT);
  await makeFastRepository(REPO);
  lvm('vgcreate', '-q', 'vg-a', '/dev/vda');
  lvm('lvcreate', '-q', '--type', 'thin-pool', '-L', '64M', '-c', '64k', '--poolmetadatasize', '4M', '-n', 'pool-1', 'vg-a');
  lvm('lvchange', '-q', '--errorwhenfull', 'y', 'vg-a/pool-1'); // instead of writes that wait for a minute
  lvm('lvcreate', '-q', '-V', '16M', '-T', 'vg-a/pool-1', '-n', 'vol-b');
  write(0, 4 * MIB);
  write(10 * MIB, 256 * KIB);
  const { driver } = await chooseSource(VOLUME);
  assert.equal(driver.kind, 'lvm-thin');
}

async function threeSyncs(): Promise<void> {
  const first = await cliSync(`disk=${VOLUME}`, '--band-size', '256K');
  assert.equal(first.source.kind, 'lvm-thin');
  assert.ok(first.readBytes <= 5 * MIB, `the first sync reads what is mapped, it read ${first.readBytes}`);
  remember('was-1');
  assertTidy();

  for (const at of [5, 40, 77, 140]) write(at * 65_536 + 4096, 4096);
  discard(MIB, MIB);
  write(6.5 * MIB, 128 * KIB);
  sh('dd', `if=${VOLUME}`, `of=${path.join(ROOT, 'same')}`, 'bs=64K', 'skip=50', 'count=2', 'status=none');
  sh('dd', `if=${path.join(ROOT, 'same')}`, `of=${VOLUME}`, 'bs=64K', 'seek=50', 'conv=notrunc,fsync', 'status=none');
  const second = await cliSync('disk');
  assertKnown(second);
  // 16 bands are read as an audit.
  assert.ok(second.readBytes < 28 * 256 * KIB, `the second sync reads what changed, it read ${second.readBytes}`);
  remember('was-2');
  assertTidy();

  lvm('lvextend', '-q', '-L', '20M', 'vg-a/vol-b');
  write(15.75 * MIB, 512 * KIB);
  write(20 * MIB - 64 * KIB, 64 * KIB);
  const third = await cliSync('disk=/dev/mapper/vg--a-vol--b', '--verify-changes');
  assertKnown(third);
  assert.equal(third.sizeBytes, 20 * MIB);
  remember('was-3');
  assertTidy();

  lvm('lvreduce', '-q', '-f', '-y', '-L', '12M', 'vg-a/vol-b');
  assertKnown(await auditedSync());
  remember('was-4');
  lvm('lvextend', '-q', '-L', '20M', 'vg-a/vol-b'); // what was behind the end shows again, and the pool calls it the same
  assertKnown(await librarySync('disk'));
  remember('was-5');
  for (const [back, name] of ['was-5', 'was-4', 'was-3', 'was-2', 'was-1'].entries())
    await assertRestores(`latest~${back}`, `/dev/mapper/vg--a-${name.replace('-', '--')}`);
}

async function nothingChanged(): Promise<void> {
  const [before] = kept();
  const result = await librarySync('disk');
  assert.equal(result.status, 'unchanged');
  assertKnown(result);
  assertTidy();
  assert.notEqual(kept()[0]?.name, before?.name, 'the newer snapshot is kept: the older one would grow');
  const dry = await librarySync('disk', { isDryRun: true });
  assertKnown(dry);
  assertTidy();
}

async function heldBySomeoneElse(): Promise<void> {
  sh('dmsetup', 'message', POOL_DEVICE, '0', 'reserve_metadata_snap');
  const root = heldRoot();
  write(2 * MIB, 4096);
  assertUnknown(await librarySync('disk'), /another program holds the metadata snapshot/);
  assert.equal(heldRoot(), root, 'theirs is left alone');

  // As if a sync of ours had been killed right after it took the snapshot, before it could write down its root.
  const uuid = volumes().find(({ name }) => name === 'pool-1')?.uuid;
  writeFileSync(path.join(STATE, 'lvm', `${uuid}.json`), '{}\n');
  write(2 * MIB, 4096);
  assertKnown(await librarySync('disk'));
  assertTidy();
}

async function withoutThinDelta(): Promise<void> {
  const folder = path.join(ROOT, 'few-tools');
  mkdirSync(folder);
  for (const tool of ['lvm', 'dmsetup']) symlinkSync(sh('which', tool).trim(), path.join(folder, tool));
  write(3 * MIB, 4096);
  const { PATH } = process.env;
  process.env['PATH'] = `${folder}:/usr/bin:/bin`;
  try {
    assertUnknown(await librarySync('disk'), /thin_delta is not installed \(Debian: apt-get install thin-provisioning-tools\)/);
  } finally {
    process.env['PATH'] = PATH;
  }
  assertTidy();
}

/** Stands before each tool and kills the process that called it, where the command matches. */
const WRAPPER = `#!/bin/bash
real=$(PATH=\${PATH#*:} command -v "\${0##*/}")
line="\${0##*/} $*"
[[ -n $KILL_BEFORE && $line == $KILL_BEFORE ]] && { kill -9 $PPID; exit 1; }
"$real" "$@"
status=$?
[[ -n $KILL_AFTER && $line == $KILL_AFTER ]] && kill -9 $PPID
exit $status
`;

function makeWrappers(): void {
  mkdirSync(WRAPPERS);
  for (const tool of ['lvm', 'dmsetup', 'thin_delta']) {
    writeFileSync(path.join(WRAPPERS, tool), WRAPPER);
    chmodSync(path.join(WRAPPERS, tool), 0o755);
  }
}

const KILL_POINTS: readonly Readonly<Record<string, string>>[] = [
  { KILL_BEFORE: 'thin_delta *' },
  { KILL_AFTER: 'lvm lvchange *:session:*' },
  { KILL_BEFORE: 'lvm lvremove *' },
];

async function killedSyncs(): Promise<void> {
  makeWrappers();
  const PATH = `${WRAPPERS}:${process.env['PATH']}`;
  for (const [i, point] of KILL_POINTS.entries()) {
    write((i + 1) * MIB, 8192);
    const { signal } = await signalWhen(spawn(process.execPath, [MAIN, 'sync', 'disk'], { env: { ...ENV, ...point, PATH } }), 'SIGKILL', () => false);
    assert.equal(signal, 'SIGKILL', JSON.stringify(point));
    write((i + 1) * MIB + 512 * KIB, 4096);
    assertKnown(await auditedSync());
    assertTidy();
  }
  write(0, 4 * MIB);
  const child = spawn(process.execPath, [MAIN, 'sync', 'disk'], { env: ENV });
  const { signal } = await signalWhen(child, 'SIGKILL', () => incomingFiles(REPO).some((name) => name.includes('/bands/')));
  assert.equal(signal, 'SIGKILL', 'killed while it reads');
  assertKnown(await auditedSync());
  assertTidy();
  await assertRestores('latest', VOLUME);
}

async function rolledBack(): Promise<void> {
  const copy = path.join(ROOT, 'copy');
  cpSync(REPO, copy, { recursive: true });
  write(6 * MIB, 64 * KIB);
  assertKnown(await librarySync('disk'));
  write(9 * MIB, 64 * KIB);
  const result = await librarySync('disk', { acceptsRollback: true }, copy);
  assertUnknown(result, /no LVM snapshot of the newest session is kept/);
  assertTidy();
  await assertRestores('latest', VOLUME, copy);
  assertUnknown(await librarySync('disk'), /no LVM snapshot of the newest session is kept/);
  assertTidy();
  await assertRestores('latest', VOLUME);
}

async function madeWriteable(): Promise<void> {
  const [reference] = kept();
  lvm('lvchange', '-q', '-y', '-prw', `vg-a/${reference?.name}`);
  assertUnknown(await librarySync('disk'), /was made writeable/);
  assertTidy();
}

async function twoAtOnce(): Promise<void> {
  lvm('lvcreate', '-q', '-V', '4M', '-T', 'vg-a/pool-1', '-n', 'vol-c');
  const other = '/dev/vg-a/vol-c';
  write(0, MIB, other);
  await librarySync('other', { location: other });
  write(MIB, 4096, other);
  write(MIB, 4096);
  const results = await Promise.all([librarySync('disk'), librarySync('other')]);
  for (const result of results) assertKnown(result);
  assert.equal(kept().length, 2, 'one for each volume');
  assert.equal(heldRoot(), undefined);
}

async function forgotten(): Promise<void> {
  lvm('lvcreate', '-y', '-q', '-s', '-n', 'timeband.00000000.000000000000', 'vg-a/vol-b');
  lvm('lvcreate', '-y', '-q', '-s', '-n', 'mine', '--addtag', 'timeband', 'vg-a/vol-b');
  const [disk, other] = [await ownerOf('disk'), await ownerOf('other')];
  const removed = await lvmThinDriver.forget(VOLUME, { owner: disk, stateDirectory: STATE, isDryRun: false });
  assert.equal(removed.length, 1);
  const names = volumes().map(({ name }) => name);
  assert.ok(names.includes('mine') && names.includes('timeband.00000000.000000000000'), 'only ours are removed');
  assert.equal(kept().length, 2, "the other volume's, and the stranger with our tag");
  assert.deepEqual(await lvmThinDriver.forget(VOLUME, { owner: disk, stateDirectory: STATE, isDryRun: false }), []);
  lvm('lvremove', '-q', '-y', 'vg-a/vol-c', 'vg-a/mine', 'vg-a/timeband.00000000.000000000000');
  const gone = await lvmThinDriver.forget('/dev/vg-a/vol-c', { owner: other, stateDirectory: STATE, isDryRun: false });
  assert.equal(gone.length, 1, 'also when the volume is gone');
  assert.deepEqual(kept(), []);
}

async function notThin(): Promise<void> {
  lvm('lvcreate', '-q', '-y', '-Wn', '-Zn', '-L', '4M', '-n', 'plain', 'vg-a');
  const { driver, others } = await chooseSource('/dev/vg-a/plain');
  assert.equal(driver.kind, 'device');
  assert.match(others.find(({ kind }) => kind === 'lvm-thin')?.reason ?? '', /not a thin one/);
  assert.deepEqual(await lvmThinDriver.probe('/dev/vda'), { applies: false, reason: 'it is not a logical volume of LVM' });
  assert.deepEqual(await lvmThinDriver.probe('/dev/null'), { applies: false, reason: 'it is not a block device' });
}

async function fullPool(): Promise<void> {
  for (let i = 1; i <= 5; i++) lvm('lvremove', '-q', '-y', `vg-a/was-${i}`);
  lvm('lvcreate', '-q', '-V', '100M', '-T', 'vg-a/pool-1', '-n', 'filler');
  const room = Math.ceil(((93 - poolPercent()) / 100) * 1024); // in blocks of the pool
  write(0, room * 64 * KIB, '/dev/vg-a/filler');
  const { warnings } = await librarySync('disk', { isForced: true });
  assert.match(warnings.join('\n'), /the thin pool vg-a\/pool-1 is 9\d % full/);
  assert.throws(() => write(0, 100 * MIB, '/dev/vg-a/filler'));
  await assert.rejects(librarySync('disk'), { code: 'NO_SPACE' });
  const { driver } = await chooseSource(VOLUME, 'device');
  assert.equal(driver.kind, 'device', 'the volume can still be read as it is');
}

function poolPercent(): number {
  return volumes().find(({ name }) => name === 'pool-1')?.dataPercent ?? 0;
}

type Scenarios = Readonly<Record<string, () => Promise<void>>>;
export type ScenarioSet = 'syncs' | 'crashes';

/** What is tried, in this order; the sets in two machines, because all is emulated and takes its time. */
export const SCENARIO_SETS: Readonly<Record<ScenarioSet, Scenarios>> = {
  syncs: {
    'a thin volume is recognised': makePool,
    'three syncs, with changes, discards and resizes in between, read what changed and restore byte for byte': threeSyncs,
    'where nothing changed, the newer snapshot is kept': nothingChanged,
    'a metadata snapshot that somebody else holds is left alone, and everything is read': heldBySomeoneElse,
    'without thin_delta everything is read, and the reason is told': withoutThinDelta,
    'two volumes of one pool are synced at once': twoAtOnce,
    'forget removes the snapshots of its volume, and no others': forgotten,
    'other devices are left to other sources': notThin,
    'a pool that is nearly full is warned of, and a full one is an error that says what to do': fullPool,
  },
  crashes: {
    'a thin volume is synced': firstSync,
    'after kill -9 at any step the next sync knows what changed, and nothing is left over': killedSyncs,
    'a repository that was put back to an older state is not told of changes since a newer one': rolledBack,
    'a kept snapshot that was made writeable is not trusted': madeWriteable,
  },
};

async function firstSync(): Promise<void> {
  await makePool();
  await librarySync('disk', { location: VOLUME, bandBytes: 256 * KIB });
  assertTidy();
}

/** Runs all; after a failure those that follow are tried as well. */
export async function runScenarios(set: ScenarioSet, report: (line: string) => void): Promise<void> {
  for (const [title, run] of Object.entries(SCENARIO_SETS[set])) {
    const start = performance.now();
    let problem: string | null = null;
    try {
      await run();
    } catch (error) {
      problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
    }
    report(JSON.stringify({ title, problem, seconds: Math.round((performance.now() - start) / 100) / 10 }));
    if (problem !== null && (run === makePool || run === firstSync)) break; // nothing can be tried
  }
  await pool?.close();
}
