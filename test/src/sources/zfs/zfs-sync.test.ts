/** ZFS volumes backed up through programs that stand in for zfs and zstream: sessions, snapshots, and what goes wrong. */
import { readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../../bands/workers/band-pool.ts';
import { restoreSession } from '../../../../src/restore.ts';
import { zfsDriver } from '../../../../src/sources/zfs/zfs-source.ts';
import type { SyncOptions, SyncResult } from '../../../../src/sync/request.ts';
import { fill, sameBytes } from '../../../support/bytes.ts';
import { DEVICES, FakeZfs } from '../../../support/fake-zfs.ts';
import { codeOf, type Lab, lab } from '../../../support/library.ts';
import { writeParts } from '../../../support/parts.ts';
import { incomingFiles, signalWhen } from '../../../support/processes.ts';
import { sh } from '../../../support/workspace.ts';

const MIB = 1_048_576;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());
const PATH = process.env['PATH'];
test.afterEach.always(() => {
  process.env['PATH'] = PATH;
});

class Story {
  readonly t: ExecutionContext;
  readonly at: Lab;
  readonly zfs: FakeZfs;
  readonly sessions = new Map<string, Uint8Array>();

  private constructor(t: ExecutionContext, at: Lab) {
    this.t = t;
    this.at = at;
    this.zfs = new FakeZfs(t, at);
    process.env['PATH'] = this.zfs.path;
    at.env['PATH'] = this.zfs.path;
  }

  static async begin(t: ExecutionContext): Promise<Story> {
    const story = new Story(t, await lab(t, pool));
    writeFileSync(story.zfs.live, fill('all', 12 * MIB));
    return story;
  }

  get location(): string {
    return `zfs:${this.zfs.volume}`;
  }

  write(offset: number, bytes: Uint8Array): void {
    writeParts(this.zfs.live, readFileSync(this.zfs.live).length, [{ at: offset, bytes }]);
  }

  async sync(options: Partial<SyncOptions> = {}): Promise<SyncResult> {
    const result = await this.at.sync('disk', this.location, options);
    this.t.deepEqual(result.source, { kind: 'zfs', location: this.location });
    this.t.is(result.missedBands, 0);
    if (result.status === 'created') this.sessions.set(result.session ?? '', readFileSync(this.zfs.live));
    return result;
  }

  async verify(): Promise<void> {
    const target = this.at.at('restored.img');
    for (const [id, bytes] of this.sessions) {
      await restoreSession({ session: await this.at.session('disk', id), target, pool });
      sameBytes(this.t, readFileSync(target), bytes, `session ${id}`);
      rmSync(target);
    }
  }

  /** Snapshots and devices that are left must be those of the newest session alone. */
  verifyOneSnapshot(): void {
    const { snapshots, volume } = this.zfs.load();
    this.t.is(snapshots.length, 1, JSON.stringify(snapshots));
    const [one] = snapshots;
    this.t.is(one?.properties['timeband:session']?.[0].length, 32);
    this.t.deepEqual(readdirSync(path.join(DEVICES, path.dirname(volume))), [path.basename(one?.name ?? '')]);
  }
}

function readsAll({ warnings }: SyncResult): boolean {
  return warnings.some((warning) => warning.startsWith('reading everything'));
}

test.serial('what changed between two snapshots is read, the rest is linked', async (t) => {
  const story = await Story.begin(t);
  const first = await story.sync();
  t.regex(first.warnings.join(), /snapdev=visible/);
  story.verifyOneSnapshot();
  const changes: readonly (() => void)[] = [
    () => story.write(5 * MIB + 77, fill('little', 9)),
    () => story.write(3 * MIB, new Uint8Array(2 * MIB)),
    () => story.write(MIB, new Uint8Array(16_384).fill(1, 0, 20)),
    () => truncateSync(story.zfs.live, 14 * MIB),
    () => story.write(14 * MIB - 512, fill('end', 512)),
    () => truncateSync(story.zfs.live, 9 * MIB),
    () => story.write(0, fill('all', MIB).slice().reverse()),
  ];
  for (const change of changes) {
    change();
    const result = await story.sync();
    t.deepEqual(result.warnings, []);
    t.is(result.status, 'created');
    story.verifyOneSnapshot();
  }
  t.is((await story.sync()).status, 'unchanged');
  story.verifyOneSnapshot();
  story.write(MIB, fill('after nothing changed', 100));
  t.is((await story.sync({ verifiesChanges: true })).changedBands, 1);
  await story.verify();
});

for (const fault of ['cut', 'checksum', 'redact', 'spill', 'unknown', 'other guid', 'fails', 'lost record'] as const) {
  test.serial(`a stream that is wrong (${fault}) means that everything is read`, async (t) => {
    const story = await Story.begin(t);
    await story.sync();
    story.write(7 * MIB, fill('second', 5000));
    story.zfs.change((state) => {
      state.fault = fault;
    });
    const result = await story.sync();
    t.true(readsAll(result));
    t.is(result.changedBands, 1);
    story.verifyOneSnapshot();
    await story.verify();
  });
}

test.serial('a dry run and a failed sync leave no snapshot behind', async (t) => {
  const story = await Story.begin(t);
  await story.sync({ isDryRun: true });
  t.like(story.zfs.load(), { snapshots: [], snapdev: 'hidden' });
  await story.sync();
  story.write(0, fill('x', 10));
  await story.sync({ isDryRun: true });
  const abort = new AbortController();
  abort.abort();
  t.is(await codeOf(() => story.at.sync('disk', story.location, { signal: abort.signal })), 'INTERRUPTED');
  story.verifyOneSnapshot();
});

test.serial('a snapshot counts only with properties of its own, for this volume and session', async (t) => {
  const story = await Story.begin(t);
  for (const hurt of ['inherited', 'received', 'other session', 'other owner', 'gone'] as const) {
    await story.sync({ isForced: true });
    story.write(2 * MIB, fill(hurt, 3000));
    const [one] = story.zfs.load().snapshots;
    if (hurt === 'gone') sh(path.join(story.at.root, 'bin', 'zfs'), 'destroy', one?.name ?? '');
    else
      story.zfs.change(({ snapshots }) => {
        const properties = snapshots[0]?.properties ?? {};
        const [session = ''] = properties['timeband:session'] ?? [];
        delete properties['timeband:process']; // it is this one, which runs
        if (hurt === 'other owner') properties['timeband:owner'] = [`${'00'.repeat(16)}.${'11'.repeat(16)}`, 'local'];
        else properties['timeband:session'] = hurt === 'other session' ? ['22'.repeat(16), 'local'] : [session, hurt];
      });
    const result = await story.sync();
    t.true(readsAll(result), hurt);
    const { snapshots } = story.zfs.load();
    t.is(snapshots.length, hurt === 'other owner' ? 2 : 1, 'what belongs to somebody else is left alone');
    if (hurt === 'other owner') sh(path.join(story.at.root, 'bin', 'zfs'), 'destroy', one?.name ?? '');
  }
  await story.verify();
});

test.serial('a repository put back to an older copy gets no wrong bytes', async (t) => {
  const story = await Story.begin(t);
  const { at } = story;
  await story.sync();
  sh('cp', '-a', at.repo, at.at('older'));
  story.write(2 * MIB, fill('second', 1000));
  const lost = await story.sync();
  rmSync(at.repo, { recursive: true });
  renameSync(at.at('older'), at.repo);
  story.sessions.delete(lost.session ?? '');
  story.write(7 * MIB, fill('third', 1000));
  const back = await story.sync();
  t.true(readsAll(back));
  t.is(back.changedBands, 2);
  story.verifyOneSnapshot();
  await story.verify();
});

test.serial('after kill -9 at any moment the next sync is right, and drops what was left', async (t) => {
  const story = await Story.begin(t);
  const { at, zfs } = story;
  await story.sync();
  const isBound = (count: number): boolean => zfs.load().snapshots.filter(({ properties }) => 'timeband:session' in properties).length >= count;
  const moments = [
    () => zfs.load().snapshots.length > 1,
    () => incomingFiles(at.repo).length > 0,
    () => isBound(2),
    () => isBound(2) && incomingFiles(at.repo).length === 0,
  ];
  let kills = 0;
  for (const [round, isTime] of moments.entries()) {
    story.write(round * MIB, fill(`round ${round}`, 2 * MIB));
    const { signal } = await signalWhen(at.start('sync', `disk=${story.location}`), 'SIGKILL', isTime);
    if (signal === 'SIGKILL') kills++;
    const newest = (await (await at.repository.volume('disk')).sessionIds()).at(-1) ?? '';
    if (!story.sessions.has(newest)) story.sessions.set(newest, readFileSync(zfs.live));
    story.write(10 * MIB, fill(`after ${round}`, 500));
    await story.sync();
    story.verifyOneSnapshot();
  }
  t.true(kills > 0);
  await story.verify();
});

test.serial('forgetting a volume destroys its snapshots, and only those', async (t) => {
  const story = await Story.begin(t);
  await story.sync();
  const owner = { repositoryId: story.at.repository.id, volumeId: (await story.at.repository.volume('disk')).id };
  const context = { stateDirectory: undefined, isDryRun: false };
  t.deepEqual(await zfsDriver.forget(story.location, { ...context, owner: { ...owner, volumeId: '00'.repeat(16) } }), []);
  t.is((await zfsDriver.forget(story.location, { ...context, owner })).length, 1);
  t.deepEqual(story.zfs.load().snapshots, []);
});

test.serial('a volume that is not there, is none, or without the program zfs is told as such', async (t) => {
  const story = await Story.begin(t);
  t.is(await codeOf(() => story.at.sync('disk', 'zfs:nowhere/vol')), 'SOURCE_NOT_FOUND');
  for (const location of ['zfs:pool', 'zfs:pool/vol@snap', 'zfs:-r/vol', 'zfs:pool/../vol', 'zfs:pool/a b'])
    t.is(await codeOf(() => story.at.sync('disk', location)), 'SOURCE_INVALID', location);
  process.env['PATH'] = '/nowhere';
  t.is(await codeOf(() => story.at.sync('disk', story.location)), 'TOOL_MISSING');
  process.env['PATH'] = PATH;
  t.deepEqual(readdirSync(path.join(story.at.repo, 'volumes')), []);
});
