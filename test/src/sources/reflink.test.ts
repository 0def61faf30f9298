/** The reflink source on real XFS and btrfs: what it calls unchanged is unchanged, whatever was done to the image or to its references. */
import { execFileSync } from 'node:child_process';
import { closeSync, cpSync, existsSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { ByteRange } from '../../../bands/format/geometry.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { restoreSession } from '../../../src/restore.ts';
import { openSource } from '../../../src/sources/open-source.ts';
import { fill } from '../../support/bytes.ts';
import { DYING_POINTS } from '../../support/dying-sync.ts';
import { type FileSystemSpec, mountFileSystem } from '../../support/file-systems.ts';
import { BAND_256K, type Lab, lab } from '../../support/library.ts';
import { firstWrongByte } from '../../support/parts.ts';
import { sh } from '../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const MIB = 1_048_576;
const KIB4 = 4096;
const IMAGE_MIB = 24;
const DYING_SYNC = fileURLToPath(new URL('../../support/dying-sync.js', import.meta.url));

const XFS: FileSystemSpec = { name: 'XFS', make: ['mkfs.xfs', '-q', '-f'], sizeMib: 512 };
const BTRFS: FileSystemSpec = { name: 'btrfs', make: ['mkfs.btrfs', '-q', '-f'], sizeMib: 512 };
const FILE_SYSTEMS: readonly (FileSystemSpec & { readonly isNoCow?: true; readonly hasCollapse?: true })[] = [
  { ...XFS, hasCollapse: true },
  { ...XFS, name: 'XFS with blocks of 1 KiB', make: [...XFS.make, '-b', 'size=1024'] },
  BTRFS,
  { ...BTRFS, name: 'btrfs without copy-on-write', isNoCow: true },
  { ...BTRFS, name: 'compressed btrfs', options: 'compress-force=zstd' },
];

/** A generator of numbers that a seed repeats. */
function randomFrom(seed: string): (below: number) => number {
  let at = 0;
  const bytes = fill(seed, 400_000);
  return (below) => {
    at = (at + 4) % (bytes.length - 4);
    return new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0) % below;
  };
}

function makeImage(folder: string, isNoCow: boolean): string {
  const image = `${folder}/disk.img`;
  sh('touch', image);
  if (isNoCow) sh('chattr', '+C', image);
  write(image, 0, fill('image', (IMAGE_MIB / 2) * MIB));
  truncateSync(image, IMAGE_MIB * MIB);
  return image;
}

function write(image: string, at: number, bytes: Uint8Array, isDurable = false): void {
  const fd = openSync(image, 'r+');
  writeSync(fd, bytes, 0, bytes.length, at);
  if (isDurable) fsyncSync(fd);
  closeSync(fd);
}

/** One random thing that guests and administrators do to an image. */
function mutate(image: string, random: (below: number) => number, hasCollapse: boolean): void {
  const sizeBytes = Number(sh('stat', '-c', '%s', image));
  const block = random(Math.floor(sizeBytes / KIB4) - 40) * KIB4;
  const length = (1 + random(32)) * KIB4;
  const fallocate = (...args: string[]): string => sh('fallocate', ...args, '--offset', String(block), '--length', String(length), image);
  const kinds: (() => void)[] = [
    () => write(image, block, fill(`${random(1e9)}`, length)),
    () => write(image, block + random(KIB4), fill(`${random(1e9)}`, 1 + random(9000)), random(4) === 0),
    () => write(image, block, new Uint8Array(length)),
    () => write(image, block, readBack(image, block, length)),
    () => fallocate('--punch-hole'),
    () => fallocate('--keep-size'),
    () => fallocate('--zero-range'),
    () => truncateSync(image, Math.max(8 * MIB, sizeBytes - random(2000) * 512)),
    () => truncateSync(image, Math.min(40 * MIB, sizeBytes + random(2000) * 512)),
    () => sh('xfs_io', '-c', `reflink ${image} ${random(1000) * KIB4} ${block} ${length}`, image),
    () => (hasCollapse && sizeBytes > 12 * MIB ? fallocate('--collapse-range') : undefined),
    () => (hasCollapse ? fallocate('--insert-range') : undefined),
  ];
  kinds[random(kinds.length)]?.();
}

function readBack(image: string, at: number, length: number): Uint8Array {
  return execFileSync('dd', [`if=${image}`, 'bs=4096', `skip=${at / KIB4}`, `count=${length / KIB4}`, 'status=none'], { maxBuffer: 64 * MIB });
}

async function verifyNewest(t: ExecutionContext, at: Lab, image: string, what: string): Promise<void> {
  const target = at.at('restored.img');
  await restoreSession({ session: await at.session('disk'), target, pool });
  t.is(firstWrongByte(target, image), undefined, what);
  rmSync(target);
}

/** The files in the hidden folder. */
function kept(folder: string): string[] {
  return existsSync(`${folder}/.timeband`) ? readdirSync(`${folder}/.timeband`) : [];
}

/** How much the source named, over some syncs, in bands. */
class Claims {
  named = 0;
  changed = 0;

  /** Opens sources and counts the bands that their change sets touch. */
  readonly open: typeof openSource = async (...args) => {
    const opened = await openSource(...args);
    const changesSince = opened.view.changesSince.bind(opened.view);
    opened.view.changesSince = async (base) => {
      const changes = await changesSince(base);
      if (changes.isKnown) {
        const { sizeBytes } = opened.view;
        this.named += claimedBandCount(changes.ranges, sizeBytes);
      }
      return changes;
    };
    return opened;
  };

  get falsePercent(): number {
    return Math.round((100 * (this.named - this.changed)) / Math.max(1, this.changed));
  }
}

function claimedBandCount(ranges: readonly ByteRange[], sizeBytes: number): number {
  const bands = new Set<number>();
  for (const { offset, length } of ranges) {
    const end = Math.min(offset + length, sizeBytes);
    for (let band = Math.floor(offset / BAND_256K); band * BAND_256K < end; band++) bands.add(band);
  }
  return bands.size;
}

/** Runs with other seeds take longer, and find more: TIMEBAND_FUZZ_SEEDS=20. */
const SEEDS = Number(process.env['TIMEBAND_FUZZ_SEEDS'] ?? 1);

for (const fileSystem of FILE_SYSTEMS) {
  for (let seed = 0; seed < SEEDS; seed++) {
    test.serial(`on ${fileSystem.name} no change is missed, whatever is done to the image (seed ${seed})`, async (t) => {
      const at = await lab(t, pool);
      const folder = mountFileSystem(at, fileSystem);
      const image = makeImage(folder, fileSystem.isNoCow ?? false);
      const random = randomFrom(`${fileSystem.name} ${seed}`);
      const claims = new Claims();
      let readBytes = 0;
      for (let round = 0; round < 16; round++) {
        for (let op = 0; op < ([0, 1, 3, 40][round % 4] ?? 0); op++) mutate(image, random, fileSystem.hasCollapse ?? false);
        sh('truncate', '-s', '%512', image);
        const isAudited = round % 2 === 1;
        const result = await at.sync('disk', image, { verifiesChanges: isAudited }, { openSource: claims.open });
        t.is(result.source.kind, 'reflink');
        t.is(result.missedBands, 0, `round ${round}: no band changed without being named`);
        if (round > 0) t.deepEqual(result.warnings, [], `round ${round}: the change set is known`);
        if (round > 0) claims.changed += result.changedBands;
        if (!isAudited && round > 0) readBytes += result.readBytes;
        await verifyNewest(t, at, image, `round ${round}`);
        t.is(kept(folder).length, 2, `round ${round}: one reference and its record`);
      }
      t.log(`${claims.changed} bands changed, ${claims.named} named: ${claims.falsePercent} % more`);
      if (!fileSystem.name.startsWith('compressed')) t.true(readBytes < 7 * IMAGE_MIB * MIB, 'not everything was read');
    });
  }
}

for (const fileSystem of [XFS, BTRFS]) {
  test.serial(`on ${fileSystem.name} what an ext4 in the image writes, deletes and trims is found`, async (t) => {
    const at = await lab(t, pool);
    const folder = mountFileSystem(at, fileSystem);
    const image = `${folder}/disk.img`;
    sh('truncate', '-s', '96M', image);
    sh('mkfs.ext4', '-q', '-F', image);
    const guest = at.folder('guest');
    const claims = new Claims();
    for (let round = 0; round < 6; round++) {
      sh('mount', '-o', 'loop', image, guest);
      for (let file = 0; file < 6; file++) writeFileSync(`${guest}/${round}-${file}`, fill(`${round} ${file}`, 300_000 * (file + 1)));
      if (round > 0) for (let file = 0; file < 6; file += 2) rmSync(`${guest}/${round - 1}-${file}`);
      if (round % 2 === 1) sh('fstrim', guest);
      sh('umount', guest);
      const result = await at.sync('disk', image, { verifiesChanges: round % 2 === 0 }, { openSource: claims.open });
      t.is(result.missedBands, 0, `round ${round}`);
      if (round > 0) claims.changed += result.changedBands;
      await verifyNewest(t, at, image, `round ${round}`);
    }
    t.log(`${claims.changed} bands changed, ${claims.named} named: ${claims.falsePercent} % more`);
  });
}

for (const fileSystem of [XFS, BTRFS]) {
  const damaged: readonly { readonly what: string; readonly damage: (folder: string, earlier: string) => void }[] = [
    { what: 'is gone', damage: (folder) => rmSync(`${folder}/.timeband`, { recursive: true }) },
    {
      what: 'was replaced by that of an earlier session',
      damage(folder, earlier) {
        const name = kept(folder).find((one) => one.endsWith('.img'));
        renameSync(earlier, `${folder}/.timeband/${name}`);
      },
    },
    {
      what: 'was replaced by a copy of the image',
      damage(folder) {
        const name = kept(folder).find((one) => one.endsWith('.img'));
        sh('cp', '--reflink=always', `${folder}/disk.img`, `${folder}/.timeband/${name}`);
      },
    },
    {
      what: 'has lost its record',
      damage(folder) {
        for (const name of kept(folder)) if (name.endsWith('.json')) rmSync(`${folder}/.timeband/${name}`);
      },
    },
  ];
  for (const { what, damage } of damaged) {
    test.serial(`on ${fileSystem.name} a reference that ${what} leads to a full read, and to a right session`, async (t) => {
      const at = await lab(t, pool);
      const folder = mountFileSystem(at, fileSystem);
      const image = makeImage(folder, false);
      await at.sync('disk', image);
      // What the first session's reference was, kept under another name by its blocks and its times.
      const earlier = `${folder}/earlier.img`;
      sh('cp', '-a', '--reflink=always', `${folder}/.timeband/${kept(folder).find((one) => one.endsWith('.img'))}`, earlier);
      write(image, 3 * MIB, fill('between', 5 * KIB4));
      await at.sync('disk', image);
      write(image, 9 * MIB, fill('after', 5 * KIB4));
      damage(folder, earlier);
      const result = await at.sync('disk', image);
      t.true(result.readBytes >= (IMAGE_MIB / 2) * MIB, 'everything was read');
      t.is(result.warnings.length, 1, 'and the user is told why');
      await verifyNewest(t, at, image, what);
      t.is((await at.sync('disk', image)).warnings.length, 0, 'the next change set is known again');
    });
  }

  test.serial(`on ${fileSystem.name} a repository that was put back to an older copy gets right sessions`, async (t) => {
    const at = await lab(t, pool);
    const folder = mountFileSystem(at, fileSystem);
    const image = makeImage(folder, false);
    await at.sync('disk', image);
    cpSync(at.repo, at.at('old copy'), { recursive: true, preserveTimestamps: true });
    write(image, 3 * MIB, fill('lost with the newer repository', 5 * KIB4));
    await at.sync('disk', image);
    rmSync(at.repo, { recursive: true });
    renameSync(at.at('old copy'), at.repo);
    write(image, 9 * MIB, fill('after', 5 * KIB4));
    await at.sync('disk', image, { acceptsRollback: true });
    await verifyNewest(t, at, image, 'after the rollback');
  });

  test.serial(`on ${fileSystem.name} after kill -9 between any two steps the next sync is right and leaves nothing behind`, async (t) => {
    const at = await lab(t, pool);
    const folder = mountFileSystem(at, fileSystem);
    const image = makeImage(folder, false);
    for (const [i, point] of [undefined, ...DYING_POINTS].entries()) {
      write(image, (i * 700 + 13) * KIB4, fill(`change ${i}`, 3 * KIB4));
      const args = [DYING_SYNC, at.repo, 'disk', image, at.at('state'), ...(point === undefined ? [] : [point])];
      const died = await at.shell(`exec "${process.execPath}" ${args.map((one) => `'${one}'`).join(' ')}`);
      if (point !== undefined) t.is(died.status, null, `killed at "${point}": ${died.stderr}`);
      write(image, (i * 700 + 90) * KIB4, fill(`later change ${i}`, 3 * KIB4));
      const result = await at.sync('disk', image);
      t.is(result.missedBands, 0, `after "${point}"`);
      if (!['dropped', 'closed', 'committed', undefined].includes(point)) t.true(result.changedBands >= 1);
      await verifyNewest(t, at, image, `after "${point}"`);
      t.is(kept(folder).length, 2, `after "${point}": one reference and its record`);
    }
  });
}

test.serial('a dry run, a failed sync and two volumes of one image leave each their own references alone', async (t) => {
  const at = await lab(t, pool);
  const folder = mountFileSystem(at, XFS);
  const image = makeImage(folder, false);
  await at.sync('never', image, { isDryRun: true });
  t.deepEqual(kept(folder), [], 'a dry run of a new volume keeps nothing');
  await at.sync('disk', image);
  await at.sync('other', image);
  const both = kept(folder);
  t.is(both.length, 4);
  await at.sync('disk', image, { isDryRun: true });
  t.deepEqual(kept(folder), both);
  write(image, 5 * MIB, fill('new', KIB4));
  await t.throwsAsync(at.sync('disk', image, { signal: AbortSignal.abort() }));
  t.deepEqual(kept(folder), both, 'an interrupted sync keeps what there was');
  const result = await at.sync('other', image);
  t.deepEqual([result.changedBands, result.warnings.length], [1, 0]);
  t.true(result.readBytes <= 40 * BAND_256K);
});

test.serial('the image is copied as of one instant while it is written', async (t) => {
  const at = await lab(t, pool);
  const folder = mountFileSystem(at, XFS);
  const image = makeImage(folder, false);
  write(image, 0, new Uint8Array(KIB4));
  // A writer that raises a number at the front, then the same number at the back, without end.
  const script = `const fs=require('fs');const fd=fs.openSync(process.argv[1],'r+');const b=Buffer.alloc(4);
    for(let i=1;;i++){b.writeUInt32LE(i);fs.writeSync(fd,b,0,4,0);fs.writeSync(fd,b,0,4,${(IMAGE_MIB - 1) * MIB});}`;
  const started = await at.shell(`'${process.execPath}' -e "${script.replaceAll('\n', ' ')}" '${image}' >/dev/null 2>&1 & echo $!`);
  t.teardown(() => process.kill(Number(started.stdout), 'SIGKILL'));
  while (readBack(image, 0, KIB4).every((byte) => byte === 0)) await sleep(10);
  for (let round = 0; round < 8; round++) {
    await at.sync('disk', image);
    const target = at.at('restored.img');
    await restoreSession({ session: await at.session('disk'), target, pool, isOverwrite: true });
    const [front = 0, back = 0] = [0, (IMAGE_MIB - 1) * MIB].map((offset) => Buffer.from(readBack(target, offset, KIB4)).readUInt32LE(0));
    t.true(front > 0 && front - back >= 0 && front - back <= 1, `round ${round}: ${front} at the front, ${back} at the back`);
  }
});

test.serial('an image on an XFS that cannot clone is read as it is, with a warning; when reflink is asked for, it is an error', async (t) => {
  const at = await lab(t, pool);
  const folder = mountFileSystem(at, { ...XFS, make: [...XFS.make, '-m', 'reflink=0'] });
  const image = makeImage(folder, false);
  const result = await at.sync('disk', image);
  t.is(result.source.kind, 'image');
  t.regex(result.warnings.join(), /cannot be cloned/);
  t.deepEqual(kept(folder), []);
  await verifyNewest(t, at, image, 'as it is');
  await t.throwsAsync(at.sync('disk', image, { sourceKind: 'reflink' }), { code: 'UNSUPPORTED' });
});
