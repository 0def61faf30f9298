/** Sparse bundles backed up for real: every session holds what was in the bundle at that time, byte for byte. */
import {
  closeSync,
  cpSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../../bands/workers/band-pool.ts';
import { checkRepository } from '../../../../src/check/check.ts';
import { restoreSession } from '../../../../src/restore.ts';
import { bundleDriver } from '../../../../src/sources/bundle/bundle-source.ts';
import type { SourceView } from '../../../../src/sources/source.ts';
import type { SyncOptions, SyncResult } from '../../../../src/sync/request.ts';
import { type BundleShape, MIB, ModelBundle } from '../../../support/bundles.ts';
import { fill, sameBytes } from '../../../support/bytes.ts';
import { type Lab, lab } from '../../../support/library.ts';
import { incomingFiles, signalWhen } from '../../../support/processes.ts';
import { sh } from '../../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** A bundle with its sessions, and what each must hold. */
class Story {
  readonly t: ExecutionContext;
  readonly at: Lab;
  readonly bundle: ModelBundle;
  readonly name: string;
  readonly sessions = new Map<string, Uint8Array>();

  constructor(t: ExecutionContext, at: Lab, shape: BundleShape, name = 'disk') {
    this.t = t;
    this.at = at;
    this.name = name;
    this.bundle = new ModelBundle(at.at(`${name}.sparsebundle`), shape);
  }

  static async begin(t: ExecutionContext, shape: BundleShape = { sizeBytes: 24 * MIB, bandBytes: MIB }): Promise<Story> {
    return new Story(t, await lab(t, pool), shape);
  }

  async sync(options: Partial<SyncOptions> = {}): Promise<SyncResult> {
    const result = await this.at.sync(this.name, this.bundle.folder, options, { stateDirectory: this.at.at('state') });
    this.t.is(result.source.kind, 'bundle');
    this.t.is(result.missedBands, 0, 'no change is missed');
    if (result.status === 'created') this.sessions.set(result.session ?? '', Uint8Array.from(this.bundle.bytes));
    return result;
  }

  async verify(ids: Iterable<string> = this.sessions.keys()): Promise<void> {
    const target = this.at.at('restored.img');
    for (const id of ids) {
      await restoreSession({ session: await this.at.session(this.name, id), target, pool });
      sameBytes(this.t, readFileSync(target), this.sessions.get(id) ?? new Uint8Array(0), `session ${id}`);
      rmSync(target);
    }
  }

  records(): string[] {
    return readdirSync(this.at.at('state'), { recursive: true, encoding: 'utf8' }).filter((name) => /\/bundle\/[^/]+\/./.test(name));
  }
}

function readsAll({ warnings }: SyncResult): boolean {
  return warnings.some((warning) => warning.startsWith('reading everything'));
}

/** A generator of numbers that a seed determines. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** One random change, of the kinds that attached volumes, copies and tools make. */
function change(bundle: ModelBundle, roll: (below: number) => number, label: string): void {
  const { bytes, bandBytes } = bundle;
  const count = Math.ceil(bytes.length / bandBytes);
  const offset = roll(bytes.length);
  const length = Math.min(1 + roll(300_000), bytes.length - offset);
  const present = bundle.present();
  const some = present[roll(present.length)];
  switch (roll(8)) {
    case 0:
      bundle.fill(roll(count) * bandBytes, bandBytes, label);
      break;
    case 1:
      if (some !== undefined) bundle.cut(some, roll(bandBytes / 512) * 512);
      break;
    case 2:
      if (some !== undefined) bundle.delete(some);
      break;
    case 3:
      bundle.writeUnderOldTimes(offset, fill(label, length));
      break;
    case 4:
      if (some !== undefined) utimesSync(bundle.band(some), 1_000_000_000 + roll(9), 1_000_000_000 + roll(9));
      break;
    case 5:
      bundle.write(offset, new Uint8Array(length));
      break;
    default:
      bundle.fill(offset, length, label);
  }
}

/** Puts an `rsync -a` copy in the bundle's place: same names, sizes and times, other inodes; or copies over it in place. */
function replaceByCopy(bundle: ModelBundle): void {
  sh('cp', '-a', bundle.folder, `${bundle.folder}.new`);
  rmSync(bundle.folder, { recursive: true });
  renameSync(`${bundle.folder}.new`, bundle.folder);
}

for (const [bandMib, sizeBytes] of [
  [1, 6 * MIB + 1536],
  [2, 9 * MIB + 512],
  [8, 21 * MIB + 4096],
] as const) {
  test(`random changes of a bundle with bands of ${bandMib} MiB are all found`, async (t) => {
    const story = await Story.begin(t, { sizeBytes, bandBytes: bandMib * MIB });
    const { bundle } = story;
    const roll = dice(bandMib);
    let informed = 0;
    for (let round = 0; round < 15; round++) {
      for (let i = roll(5); i >= 0; i--) change(bundle, roll, `${bandMib} ${round} ${i}`);
      if (round % 8 === 7) replaceByCopy(bundle);
      if (round === 10) bundle.resize(sizeBytes - 700 * 512);
      if (round === 12) bundle.resize(sizeBytes + MIB);
      if (round % 6 === 5) await bundle.settle();
      const result = await story.sync({ verifiesChanges: roll(3) === 0 });
      if (!readsAll(result)) informed++;
    }
    await story.verify();
    t.true(informed >= 7, `${informed} syncs knew what changed`);
    t.is(story.records().length, 1);
    const { findings } = await checkRepository(story.at.repository, { pool, withData: true });
    t.deepEqual(findings, []);
  });
}

test('bands whose size fits no block are read right, also where they straddle ours', async (t) => {
  const story = await Story.begin(t, { sizeBytes: 7 * MIB + 512, bandBytes: MIB + 512 });
  story.bundle.fill(0, 3 * MIB, 'a');
  story.bundle.fill(5 * MIB + 77, 2 * MIB, 'b');
  story.bundle.cut(1, 700_001);
  await story.sync();
  story.bundle.fill(MIB + 500, 24, 'edge');
  await story.sync();
  await story.verify();
});

test('our bands of 64 MiB are read from many small files, with few of them open at once', async (t) => {
  const story = await Story.begin(t, { sizeBytes: 330 * MIB, bandBytes: MIB });
  for (let i = 0; i < 330; i++) story.bundle.fill(i * MIB + (i % 7) * 1000, 700, `band ${i}`);
  await story.sync({ bandBytes: 64 * MIB });
  story.bundle.fill(200 * MIB, 10, 'more');
  await story.sync({ bandBytes: 64 * MIB });
  await story.verify();
});

test('once a bundle is at rest only what changed is read', async (t) => {
  const story = await Story.begin(t, { sizeBytes: 64 * MIB, bandBytes: MIB });
  story.bundle.fill(0, 64 * MIB, 'all');
  await story.bundle.settle();
  await story.sync();
  story.bundle.fill(10 * MIB + 5, 9, 'little');
  story.bundle.delete(20);
  const some = await story.sync();
  t.false(readsAll(some));
  t.is(some.changedBands, 1 + 4, 'one of 256 KiB, and the four of the deleted one');
  t.true(some.readBytes <= (4 + 16) * 262_144, `a band of the bundle and the audit's sample: ${some.readBytes}`);
  await story.bundle.settle();
  t.is((await story.sync()).status, 'unchanged');
  const rest = await story.sync();
  t.is(rest.status, 'unchanged');
  t.true(rest.readBytes <= 16 * 262_144, 'the sample alone');
  await story.verify();
});

test('a write under restored times is found, long after the look', async (t) => {
  const story = await Story.begin(t);
  story.bundle.fill(0, 24 * MIB, 'all');
  await story.bundle.settle();
  await story.sync();
  story.bundle.writeUnderOldTimes(5 * MIB, fill('again', 4096));
  const result = await story.sync({ verifiesChanges: true });
  t.false(readsAll(result));
  t.is(result.changedBands, 1);
  await story.verify();
});

test('where the clock of the file system ticks once a second, writes in the same tick as the look are found', async (t) => {
  const at = await lab(t, pool);
  sh('truncate', '-s', '64M', at.at('coarse.img'));
  sh('mkfs.ext4', '-q', '-F', '-I', '128', at.at('coarse.img')); // inodes that small hold whole seconds only
  sh('mount', '-o', 'loop', at.at('coarse.img'), at.folder('coarse'));
  const bundle = new ModelBundle(at.at('coarse', 'disk.sparsebundle'), { sizeBytes: 4 * MIB, bandBytes: MIB });
  const token = { repositoryId: '11'.repeat(16), volumeId: '22'.repeat(16), commitId: '33'.repeat(16) };
  const open = (): Promise<SourceView> => bundleDriver.open(bundle.folder, { owner: token, stateDirectory: at.at('state'), isDryRun: false });
  let hits = 0;
  for (let attempt = 0; attempt < 20 && hits < 3; attempt++) {
    await sleep(1000 - (Date.now() % 1000));
    bundle.fill(0, 4 * MIB, `before ${attempt}`);
    const before = statSync(bundle.band(2), { bigint: true });
    const look = await open();
    bundle.fill(2 * MIB, 100, `after ${attempt}`);
    await look.bind(token);
    await look.close();
    const after = statSync(bundle.band(2), { bigint: true });
    if (after.ctimeNs === before.ctimeNs && after.mtimeNs === before.mtimeNs) hits++;
    const view = await open();
    const changes = await view.changesSince(token);
    await view.close();
    t.true(changes.isKnown && changes.ranges.some(({ offset, length }) => offset <= 2 * MIB && offset + length >= 3 * MIB));
  }
  t.true(hits > 0, 'some write came within the tick');
});

test('what is written while a sync reads is warned of, and read by the next sync', async (t) => {
  const story = await Story.begin(t);
  story.bundle.fill(0, 24 * MIB, 'all');
  await story.bundle.settle();
  await story.sync();
  for (let round = 0; round < 4; round++) {
    story.bundle.fill(3 * MIB, 100, `before ${round}`);
    let seen = 0;
    const onProgress = (): void => {
      if (seen++ === round) for (const at of [3, 4, 23]) story.bundle.fill(at * MIB + 7, 5000, `during ${round} ${at}`);
    };
    const torn = await story.at.sync('disk', story.bundle.folder, { onProgress }, { stateDirectory: story.at.at('state') });
    if (seen > round) t.regex(torn.warnings.join(), /was written to|were written to/);
    const next = await story.sync();
    if (next.status === 'unchanged') story.sessions.set(next.session ?? '', Uint8Array.from(story.bundle.bytes));
  }
  await story.verify();
});

for (const [title, hurt] of [
  ['cut', (bundle: ModelBundle) => bundle.cut(9, 10)],
  ['deleted', (bundle: ModelBundle) => bundle.delete(9)],
  ['replaced by another size of the volume', (bundle: ModelBundle) => bundle.resize(23 * MIB)],
] as const) {
  test(`a bundle that is ${title} while it is read makes no wrong session`, async (t) => {
    const story = await Story.begin(t);
    story.bundle.fill(0, 24 * MIB, 'all');
    let isDone = false;
    const onProgress = (): void => {
      if (!isDone) hurt(story.bundle);
      isDone = true;
    };
    const outcome = await story.at
      .sync('disk', story.bundle.folder, { onProgress }, { stateDirectory: story.at.at('state') })
      .catch((error) => error);
    t.true(outcome.code === 'SOURCE_CHANGED' || /were written to/.test(outcome.warnings.join()));
    const next = await story.sync();
    if (next.status === 'unchanged') story.sessions.set(next.session ?? '', Uint8Array.from(story.bundle.bytes));
    await story.verify();
  });
}

test('after kill -9 at any moment the next sync is right, and no record is left over', async (t) => {
  const story = await Story.begin(t, { sizeBytes: 48 * MIB, bandBytes: MIB });
  const { at, bundle } = story;
  bundle.fill(0, 48 * MIB, 'all');
  await bundle.settle();
  await story.sync();
  const state = (): string[] => (existsSync(at.at('state')) ? story.records() : []);
  const moments = [
    () => incomingFiles(at.repo).length > 0,
    () => incomingFiles(at.repo).some((name) => name.includes('/bands/')),
    () => incomingFiles(at.repo).some((name) => name.includes('/index/')),
    () => state().some((name) => name.includes('.tmp-')),
    () => state().length > 1,
    () => state().length > 1 && incomingFiles(at.repo).length === 0,
  ];
  let kills = 0;
  for (let round = 0; round < 9; round++) {
    for (let i = 0; i < 6; i++) bundle.fill(((round * 7 + i * 11) % 48) * MIB, MIB, `${round} ${i}`);
    const isTime = moments[round % moments.length] ?? (() => true);
    const { signal } = await signalWhen(at.start('sync', `disk=${bundle.folder}`), 'SIGKILL', isTime);
    if (signal === 'SIGKILL') kills++;
    const newest = (await (await at.repository.volume('disk')).sessionIds()).at(-1) ?? '';
    if (!story.sessions.has(newest)) story.sessions.set(newest, Uint8Array.from(bundle.bytes));
    bundle.fill(((round * 5) % 48) * MIB + 99, 1234, `after ${round}`);
    await story.sync();
    t.is(story.records().length, 1, `round ${round}: ${story.records()}`);
    await story.verify([newest, ...[...story.sessions.keys()].slice(-1)]);
  }
  t.true(kills >= 3, `${kills} syncs were killed`);
  await story.verify();
});

test('a repository put back to an older copy gets no wrong bytes', async (t) => {
  const story = await Story.begin(t);
  const { at, bundle } = story;
  bundle.fill(0, 24 * MIB, 'all');
  await bundle.settle();
  await story.sync();
  sh('cp', '-a', at.repo, at.at('older'));
  bundle.fill(2 * MIB, 1000, 'second');
  const lost = await story.sync();
  await bundle.settle();
  await story.sync();
  rmSync(at.repo, { recursive: true });
  renameSync(at.at('older'), at.repo);
  story.sessions.delete(lost.session ?? '');
  bundle.fill(7 * MIB, 1000, 'third');
  const back = await story.sync();
  t.true(readsAll(back));
  t.is(back.changedBands, 2);
  await story.verify();
});

test('a record that is damaged, missing, or of another session or volume is told, and everything is read', async (t) => {
  const story = await Story.begin(t);
  const { at, bundle } = story;
  const other = new Story(t, at, { sizeBytes: 24 * MIB, bandBytes: MIB }, 'other');
  for (const one of [story, other]) one.bundle.fill(0, 24 * MIB, one.name);
  await bundle.settle();
  for (const one of [story, other]) await one.sync();
  const { id } = await at.repository.volume('disk');
  const records = story.records().map((record) => at.at('state', record));
  const mine = records.find((record) => record.includes(id)) ?? '';
  const others = records.find((record) => !record.includes(id)) ?? '';
  const [first, second] = [readFileSync(mine), readFileSync(others)];
  const hurts: readonly (readonly [string, (file: string, bytes: Uint8Array) => void])[] = [
    [
      'damaged',
      (file, bytes) =>
        writeFileSync(
          file,
          bytes.map((byte, i) => (i === 130 ? byte ^ 1 : byte)),
        ),
    ],
    ['damaged', (file, bytes) => writeFileSync(file, bytes.subarray(0, 100))],
    ['damaged', (file) => writeFileSync(file, '')],
    ['another session', (file, bytes) => writeFileSync(file, bytes === first ? second : first)],
    ['no record', (file) => rmSync(file)],
  ];
  for (const [reason, hurt] of hurts) {
    hurt(mine, first);
    bundle.writeUnderOldTimes(5 * MIB, fill(reason, 600));
    const result = await story.sync({ isDryRun: true });
    t.regex(result.warnings.join(), new RegExp(`reading everything: .*${reason}`));
    writeFileSync(mine, first);
  }
  rmSync(mine);
  rmSync(others);
  for (const one of [story, other]) t.true(readsAll(await one.sync()));
  for (const one of [story, other]) await one.verify();
});

test('a copy in the place of the bundle, and one that was copied over it, are read for what they are', async (t) => {
  const story = await Story.begin(t);
  const { bundle } = story;
  bundle.fill(0, 24 * MIB, 'all');
  await bundle.settle();
  await story.sync();
  replaceByCopy(bundle);
  const copied = await story.sync();
  t.true(readsAll(copied));
  t.is(copied.status, 'unchanged');
  const older = statSync(bundle.band(3)).mtime;
  bundle.fill(3 * MIB, 5000, 'in place');
  utimesSync(bundle.band(3), older, older); // as rsync --inplace -a does
  t.is((await story.sync()).changedBands, 1);
  cpSync(bundle.band(4), `${bundle.band(4)}.new`, { preserveTimestamps: true });
  const fd = openSync(`${bundle.band(4)}.new`, 'r+');
  writeSync(fd, fill('renamed over', 512), 0, 512, 0);
  closeSync(fd);
  const times = statSync(bundle.band(4));
  utimesSync(`${bundle.band(4)}.new`, times.atime, times.mtime);
  renameSync(`${bundle.band(4)}.new`, bundle.band(4));
  bundle.bytes.set(fill('renamed over', 512), 4 * MIB);
  t.is((await story.sync()).changedBands, 1);
  await story.verify();
});

test('two repositories keep records of one bundle, each its own', async (t) => {
  const story = await Story.begin(t);
  const { at, bundle } = story;
  const twin = new Story(t, at, { sizeBytes: 24 * MIB, bandBytes: MIB }, 'twin');
  rmSync(twin.bundle.folder, { recursive: true });
  Object.assign(twin, { bundle });
  bundle.fill(0, 24 * MIB, 'all');
  await bundle.settle();
  await story.sync();
  await twin.sync();
  for (let round = 0; round < 4; round++) {
    bundle.fill(round * MIB, 700, `round ${round}`);
    t.false(readsAll(await (round % 2 === 0 ? story : twin).sync()));
  }
  t.is(story.records().length, 2);
  t.is(new Set(story.records().map((record) => path.dirname(record))).size, 2);
  for (const one of [story, twin]) {
    await one.sync();
    await one.verify();
  }
});
