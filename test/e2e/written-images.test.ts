/** Tracked images and live bundles as disks: file systems on them, durable writes, full disks, and syncs of what is in use. */
import { execFile } from 'node:child_process';
import { closeSync, constants, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { FUSE_TYPE, mountsAt } from '../../fuse/mount-table.ts';
import { attachBundle, attachTracked, detachBundle, detachTracked } from '../../src/mount/attached.ts';
import { restoreSession } from '../../src/restore.ts';
import { fill, sameBytes } from '../support/bytes.ts';
import { FaultyFs } from '../support/faulty-fs/faulty-fs.ts';
import { copyTree, treeDifference } from '../support/images.ts';
import { codeOf, type Lab, lab } from '../support/library.ts';
import { killServer } from '../support/mount-server.ts';
import { readPart } from '../support/parts.ts';
import { sh } from '../support/workspace.ts';

const run = promisify(execFile);
const MIB = 1_048_576;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const KINDS = ['tracked', 'bundle'] as const;
type Kind = (typeof KINDS)[number];

/** An image of one kind, attached. */
class Disk {
  readonly kind: Kind;
  readonly directory: string;
  readonly #at: Lab;

  constructor(at: Lab, kind: Kind) {
    this.#at = at;
    this.kind = kind;
    this.directory = at.folder(`${kind} mnt`);
  }

  get source(): string {
    return this.#at.at(this.kind === 'tracked' ? 'disk.img' : 'disk.sparsebundle');
  }

  /** The file to write to. */
  get image(): string {
    return path.join(this.directory, 'image');
  }

  async make(sizeBytes: number): Promise<void> {
    if (this.kind === 'bundle') await this.#at.ok('bundle', 'create', this.source, '--size', String(sizeBytes));
    else {
      writeFileSync(this.source, '');
      truncateSync(this.source, sizeBytes);
    }
  }

  async attach(): Promise<void> {
    const options = { stateDirectory: this.#at.at('state'), image: this.source, directory: this.directory };
    await (this.kind === 'tracked' ? attachTracked(options) : attachBundle(options));
  }

  async detach(): Promise<void> {
    await (this.kind === 'tracked' ? detachTracked : detachBundle)(this.#at.at('state'), this.directory);
  }

  async kill(): Promise<void> {
    await killServer(this.#at.at('state'), this.directory);
  }

  /** Attached with a loop device over it. */
  attachLoop(): string {
    return sh('losetup', '--find', '--show', '--direct-io=on', this.image).trim();
  }
}

async function withFileSystem(disk: Disk, folder: string, use: () => void | Promise<void>): Promise<void> {
  const loop = disk.attachLoop();
  await run('mount', [loop, folder]);
  try {
    await use();
  } finally {
    await run('umount', [folder]);
    await run('losetup', ['--detach', loop]);
  }
}

/** The compiled program: hundreds of files of all sizes. */
const TREE: string = fileURLToPath(new URL('../../src', import.meta.url));

for (const kind of KINDS) {
  for (const type of ['ext4', 'xfs'] as const) {
    test.serial(`${kind}: ${type} on it holds a tree of files, through detach and kill -9, and is clean`, async (t) => {
      const at = await lab(t, pool);
      const disk = new Disk(at, kind);
      const folder = at.folder('fs');
      await disk.make(320 * MIB);
      await disk.attach();
      const loop = disk.attachLoop();
      await run(`mkfs.${type}`, type === 'ext4' ? ['-q', loop] : ['-q', '-f', loop]);
      await run('losetup', ['--detach', loop]);
      await withFileSystem(disk, folder, async () => {
        copyTree(TREE, path.join(folder, 'tree'));
        const job = [
          '--rw=randwrite',
          '--bsrange=512-256k',
          '--size=16M',
          '--fsync=20',
          '--verify=crc32c',
          '--do_verify=1',
          '--verify_fatal=1',
          '--verify_state_save=0',
        ];
        await run('fio', ['--name=verify', `--directory=${folder}`, '--unlink=1', '--output-format=terse', ...job]);
      });
      await disk.detach();
      await disk.attach();
      await withFileSystem(disk, folder, () => void t.is(treeDifference(TREE, path.join(folder, 'tree')), ''));
      await killUnder(t, disk, folder);
      await checkFileSystem(t, disk, type);
      await withFileSystem(disk, folder, () => {
        t.is(treeDifference(TREE, path.join(folder, 'tree')), '');
        t.is(readFileSync(path.join(folder, 'durable'), 'latin1').slice(0, 7), 'durable');
      });
      await disk.detach();
    });
  }
}

/** A file is made durable, more is written, and the process that serves the disk is killed. */
async function killUnder(t: ExecutionContext, disk: Disk, folder: string): Promise<void> {
  const loop = disk.attachLoop();
  await run('mount', [loop, folder]);
  const fd = openSync(path.join(folder, 'durable'), 'w');
  writeSync(fd, `durable${'.'.repeat(300_000)}`);
  fsyncSync(fd);
  closeSync(fd);
  writeFileSync(path.join(folder, 'not durable'), fill('more', 2 * MIB));
  await disk.kill();
  await run('umount', [folder]).catch(() => run('umount', ['-l', folder])); // its last writes fail
  await run('losetup', ['--detach', loop]);
  await disk.attach();
  t.is(mountsAt(disk.directory).at(-1)?.type, FUSE_TYPE);
}

async function checkFileSystem(t: ExecutionContext, disk: Disk, type: 'ext4' | 'xfs'): Promise<void> {
  const loop = disk.attachLoop();
  if (type === 'xfs') {
    const folder = `${disk.directory} replay`;
    mkdirSync(folder);
    await run('mount', [loop, folder]); // replays the log
    await run('umount', [folder]);
    await run('xfs_repair', ['-n', loop]);
  } else {
    await run('e2fsck', ['-f', '-p', loop]).catch((error: { readonly code: number }) => t.is(error.code, 1, 'no more than the journal was mended'));
    await run('e2fsck', ['-f', '-n', loop]);
  }
  await run('losetup', ['--detach', loop]);
}

test.serial('a tracked image with a mounted ext4 that is written to is backed up as of one instant, and only what changed is read', async (t) => {
  const at = await lab(t, pool);
  const disk = new Disk(at, 'tracked');
  const folder = at.folder('fs');
  await disk.make(256 * MIB);
  await disk.attach();
  const loop = disk.attachLoop();
  await run('mkfs.ext4', ['-q', loop]);
  await run('mount', [loop, folder]);
  const writer = execFile('sh', ['-c', `i=0; while [ ! -e stop ]; do i=$((i+1)); echo "$i" >a; cp a b; cp b "n$((i%9))"; sync -f .; done`], {
    cwd: folder,
  });
  const ended = new Promise<void>((resolve) => writer.once('close', () => resolve()));
  const read: number[] = [];
  for (let i = 0; i < 4; i++) {
    await sleep(150);
    const { status, source, readBytes, warnings } = await at.sync('vm', disk.image, {}, { stateDirectory: at.at('state') });
    t.deepEqual([status, source.kind, warnings], ['created', 'tracked', []]);
    read.push(readBytes);
  }
  writeFileSync(path.join(folder, 'stop'), '');
  await ended;
  await run('umount', [folder]);
  await run('losetup', ['--detach', loop]);
  t.true(Math.max(...read.slice(1)) < 64 * MIB, `${read}`);
  const sessions = (await (await at.repository.volume('vm')).sessionIds()).map((id) => id);
  for (const id of sessions) {
    const target = at.at(`${id}.img`);
    await restoreSession({ session: await at.session('vm', id), target, pool });
    await run('e2fsck', ['-f', '-p', target]).catch((error: { readonly code: number }) => t.is(error.code, 1));
    await run('e2fsck', ['-f', '-n', target]);
  }
  await disk.detach();
});

test.serial('a live bundle is synced by the times of its bands, before and after it was attached', async (t) => {
  const at = await lab(t, pool);
  const disk = new Disk(at, 'bundle');
  await disk.make(64 * MIB);
  await disk.attach();
  writeAt(disk.image, fill('first', 100_000), 9 * MIB);
  t.is(await codeOf(() => at.sync('vm', disk.source)), 'LOCKED');
  await disk.detach();
  await sleep(2100); // until the times of the bands are believed
  const environment = { stateDirectory: at.at('state') };
  t.is((await at.sync('vm', disk.source, {}, environment)).source.kind, 'bundle');
  await disk.attach();
  writeAt(disk.image, fill('second', 5000), 40 * MIB);
  writeAt(disk.image, new Uint8Array(8 * MIB), 8 * MIB);
  await disk.detach();
  t.deepEqual(readdirSync(path.join(disk.source, 'bands')), ['5']);
  const result = await at.sync('vm', disk.source, {}, environment);
  t.deepEqual([result.changedBands, result.warnings], [2, []]);
  await restoreSession({ session: await at.session('vm'), target: at.at('out.img'), pool });
  sameBytes(t, readPart(at.at('out.img'), 40 * MIB, 5000), fill('second', 5000));
  sameBytes(t, readPart(at.at('out.img'), 9 * MIB, 100_000), new Uint8Array(100_000));
});

function writeAt(file: string, bytes: Uint8Array, offset: number): void {
  const fd = openSync(file, constants.O_RDWR);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

for (const kind of KINDS) {
  test.serial(`${kind}: a full disk behind it is ENOSPC to who writes, and what was written stays`, async (t) => {
    const at = await lab(t, pool);
    sh('mount', '-t', 'tmpfs', '-o', 'size=6M', 'tmpfs', at.folder('small'));
    const source = at.at('small', kind === 'tracked' ? 'disk.img' : 'disk.sparsebundle');
    const directory = at.folder('mnt');
    const options = { stateDirectory: at.at('state'), image: source, directory };
    if (kind === 'tracked') {
      writeFileSync(source, '');
      truncateSync(source, 20 * MIB);
      await attachTracked(options);
    } else {
      await at.ok('bundle', 'create', source, '--size', '20M', '--band-size', '1M');
      await attachBundle(options);
    }
    const image = path.join(directory, 'image');
    writeAt(image, fill('there', 3 * MIB), 0);
    t.throws(() => writeAt(image, fill('more', 6 * MIB), 10 * MIB), { code: 'ENOSPC' });
    sameBytes(t, readPart(image, 0, 3 * MIB), fill('there', 3 * MIB));
    t.throws(() => writeAt(image, new Uint8Array(512), 20 * MIB), { code: 'ENOSPC' }, 'behind the end of the disk');
    await (kind === 'tracked' ? detachTracked : detachBundle)(at.at('state'), directory);
  });
}

test.serial('the commands tell what is attached, keep to their own mounts, and refuse what is in use', async (t) => {
  const at = await lab(t, pool);
  const disk = new Disk(at, 'tracked');
  await disk.make(4 * MIB);
  t.regex(await at.ok('track', 'status'), /No tracked image/);
  await at.ok('track', 'attach', disk.source, disk.directory, '--aside-size', '1M');
  t.is((await at.json('track', 'attach', disk.source, at.folder('other'))).error.code, 'LOCKED');
  t.is((await at.json('unmount', disk.directory)).error.code, 'MOUNT_BUSY');
  t.is((await at.json('bundle', 'detach', disk.directory)).error.code, 'USAGE');
  const fd = openSync(disk.image, 'r');
  t.is((await at.json('track', 'detach', disk.directory)).error.code, 'MOUNT_BUSY');
  closeSync(fd);
  const [status] = (await at.json('track', 'status', disk.directory)).images;
  t.deepEqual([status.image, status.directory, status.state, status.sizeBytes], [disk.source, disk.directory, 'attached', 4 * MIB]);
  await disk.kill();
  t.is((await at.json('track', 'status')).images[0].state, 'dead');
  t.is((await at.json('track', 'detach', disk.directory)).inOrder, false);
  t.deepEqual(await at.json('track', 'attach', disk.source, disk.directory), { image: disk.source, directory: disk.directory, doubt: null });
  t.is((await at.json('track', 'detach', disk.directory)).inOrder, true);
  t.is((await at.json('track', 'detach', disk.directory)).error.code, 'NOT_MOUNTED');
  t.is((await at.json('track', 'attach', at.at('missing'), disk.directory)).error.code, 'SOURCE_NOT_FOUND');
});

test.serial('a detach whose last writes the disk did not store says so', async (t) => {
  const at = await lab(t, pool);
  const disk = await FaultyFs.up(at.at('mnt'));
  t.teardown(() => disk.stop());
  const bundle = at.at('mnt', 'disk.sparsebundle');
  const options = { stateDirectory: at.at('state'), image: bundle, directory: at.folder('at') };
  await at.ok('bundle', 'create', bundle, '--size', '8M');
  await attachBundle(options);
  writeFileSync(at.at('at', 'image'), fill('bytes', 4096), { flag: 'r+' });
  await disk.arm({ name: 'one EIO', at: 1, under: ['/'], seed: 0 });
  await t.throwsAsync(() => detachBundle(options.stateDirectory, options.directory), {
    code: 'IO_ERROR',
    message: /not in order: cannot make durable/,
  });
  t.is((await disk.disarm()).first?.split(' ')[0], 'sync');
  await attachBundle(options);
  await detachBundle(options.stateDirectory, options.directory);
});
