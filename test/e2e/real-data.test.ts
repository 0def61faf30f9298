/** An ext4 image with real files, changed as people change disks: every session gives it back, byte for byte and file for file. */
import { appendFileSync, linkSync, lstatSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { fill } from '../support/bytes.ts';
import { makeImage, withMounted } from '../support/images.ts';
import { firstWrongByte, readPart } from '../support/parts.ts';
import { copyRealTree, listingDifference, listTree } from '../support/tree.ts';
import { sh, type Workspace, workspace } from '../support/workspace.ts';

const MIB = 1_048_576;

interface Kept {
  readonly id: string;
  readonly image: string;
  /** Listing of the file system at that time. */
  readonly tree: string;
  readonly result: { readonly writtenBytes: number; readonly writtenBands: number; readonly linkedBands: number };
  /** Bytes on disk that the repository grew by. */
  readonly grownBytes: number;
}

/** What is done to the mounted file system before each session, after the image got its size. */
const CHANGES: readonly { readonly what: string; readonly sizeBytes: number; readonly change: (root: string) => void }[] = [
  { what: 'a real tree is copied into it', sizeBytes: 400 * MIB, change: (root) => copyRealTree(root) },
  {
    what: 'files are changed, moved and linked',
    sizeBytes: 400 * MIB,
    change(root) {
      appendFileSync(path.join(root, 'commander/index.js'), '// changed\n');
      writeFileSync(path.join(root, 'new file with spaces'), fill('new', 300_000));
      renameSync(path.join(root, 'ava/readme.md'), path.join(root, 'moved.md'));
      symlinkSync('moved.md', path.join(root, 'link'));
      linkSync(path.join(root, 'moved.md'), path.join(root, 'second name'));
    },
  },
  {
    what: 'a large file comes, others are deleted, free space is trimmed',
    sizeBytes: 400 * MIB,
    change(root) {
      writeFileSync(path.join(root, 'large'), fill('large', 20 * MIB));
      rmSync(path.join(root, 'zstd-napi'), { recursive: true });
      sh('fstrim', root);
    },
  },
  { what: 'it grows', sizeBytes: 512 * MIB, change: (root) => writeFileSync(path.join(root, 'after growing'), fill('grown', 5 * MIB)) },
  {
    what: 'it shrinks after the large file went',
    sizeBytes: 300 * MIB,
    change: (root) => writeFileSync(path.join(root, 'after shrinking'), 'small again'),
  },
  { what: 'one byte of one file changes', sizeBytes: 300 * MIB, change: (root) => writeFileSync(path.join(root, 'after shrinking'), 'Small again') },
];

async function resize(image: string, sizeBytes: number, folder: string): Promise<void> {
  const now = statSync(image).size;
  if (sizeBytes === now) return;
  if (sizeBytes < now) await withMounted(image, folder, () => rmSync(path.join(folder, 'large')));
  else truncateSync(image, sizeBytes);
  sh('e2fsck', '-f', '-y', image);
  sh('resize2fs', image, `${sizeBytes / MIB}M`);
  truncateSync(image, sizeBytes);
}

function diskBytes(folder: string): number {
  return Number(/^\d+/.exec(sh('du', '-s', '--block-size=1', folder))?.[0]);
}

async function makeSessions(ws: Workspace): Promise<Kept[]> {
  const live = ws.at('live.img');
  const folder = ws.folder('live');
  makeImage(live, 400 * MIB);
  const kept: Kept[] = [];
  for (const [i, { sizeBytes, change }] of CHANGES.entries()) {
    await resize(live, sizeBytes, folder);
    const tree = await withMounted(live, folder, () => {
      change(folder);
      sh('sync', '-f', folder);
      return listTree(folder);
    });
    const image = ws.at(`session-${i}.img`);
    sh('cp', '--sparse=always', live, image);
    const before = diskBytes(ws.repo);
    const document = await ws.json('sync', `disks/main=${live}`);
    const [result] = document.results;
    kept.push({ id: result.session, image, tree, result, grownBytes: diskBytes(ws.repo) - before });
  }
  return kept;
}

test.serial('every session of a real ext4 image comes back, byte for byte and file for file', async (t) => {
  const ws = workspace(t);
  await ws.ok('init');
  const kept = await makeSessions(ws);
  t.is((await ws.json('sync', 'disks/main')).results[0].status, 'unchanged', 'the source is remembered, and nothing changed since');
  t.is((await ws.json('sessions', 'disks/main')).sessions.length, CHANGES.length);

  for (const [i, { id, image }] of kept.entries()) {
    const what = `session ${i}: ${CHANGES[i]?.what}`;
    const target = ws.at('restored.img');
    await ws.ok('restore', `disks/main@${id}`, target);
    t.is(firstWrongByte(target, image), undefined, `${what}: a new file`);
    t.true(lstatSync(target).blocks * 512 <= lstatSync(image).blocks * 512 * 1.02 + MIB, `${what}: the new file is as sparse as the image`);
    rmSync(target);
    const { status, stdout, stderr } = await ws.shell(`timeband restore disks/main@${id} - | cmp - ${image}`);
    t.deepEqual([status, stdout, stderr], [0, '', ''], `${what}: to stdout`);
  }

  const mount = ws.folder('mnt');
  await ws.ok('mount', mount);
  for (const [i, { id, image }] of kept.entries()) {
    t.is(firstWrongByte(`${mount}/disks/main/${id}/image`, image), undefined, `session ${i} through the mount`);
    const loop = sh('losetup', '--find', '--show', '--read-only', `${mount}/disks/main/${id}/image`).trim();
    t.notThrows(() => sh('fsck.ext4', '-n', '-f', loop), `session ${i}: fsck through a loop device on the mount`);
    sh('losetup', '--detach', loop);
  }
  await ws.ok('unmount', mount);

  for (const [i, { id, tree }] of kept.entries()) {
    const folder = ws.folder('tree');
    await ws.ok('open', `disks/main@${id}`, folder);
    t.is(listingDifference(listTree(folder), tree), undefined, `session ${i} opened`);
    t.throws(() => writeFileSync(path.join(folder, 'x'), ''), { code: 'EROFS' });
    await ws.ok('close', folder);
  }

  for (const [i, one] of kept.entries()) {
    const before = kept[i - 1];
    if (before === undefined) continue;
    const inodes = (id: string): Map<string, number> => bandInodes(ws, id);
    const [old, now] = [inodes(before.id), inodes(one.id)];
    const linked = [...now].filter(([name, inode]) => old.get(name) === inode).length;
    t.is(linked, one.result.linkedBands, `session ${i}: unchanged bands are the same inodes`);
    t.is(now.size - linked, one.result.writtenBands);
    const slack = now.size * 300 + one.result.writtenBands * 4096 + 65_536; // folders, rounding to blocks, records
    t.true(one.grownBytes <= one.result.writtenBytes + slack, `session ${i}: grew by ${one.grownBytes} for ${one.result.writtenBytes} written`);
  }
  t.true((kept.at(-1)?.result.writtenBands ?? 99) <= 8, 'one changed byte costs a few bands');
  t.is((await ws.cli('check', '--data')).status, 0);
});

function bandInodes(ws: Workspace, id: string): Map<string, number> {
  const [volume = ''] = readdirSync(path.join(ws.repo, 'volumes'));
  const folder = path.join(ws.repo, 'volumes', volume, 'sessions', id, 'bands');
  return new Map(readdirSync(folder).map((name) => [name, lstatSync(path.join(folder, name)).ino]));
}

test.serial('a restore over other bytes, in a file or on a device, leaves the session and nothing else of its range', async (t) => {
  const ws = workspace(t);
  await ws.ok('init');
  const image = ws.at('disk.img');
  makeImage(image, 200 * MIB);
  await withMounted(image, ws.folder('live'), () => copyRealTree(ws.at('live'), ['commander', 'ava']));
  await ws.ok('sync', `disk=${image}`);
  const garbage = fill('garbage', MIB);
  const target = ws.at('target.img');
  for (let i = 0; i < 201; i++) appendFileSync(target, garbage);
  await ws.ok('restore', 'disk', target, '--overwrite');
  t.is(statSync(target).size, 200 * MIB, 'a longer file is cut');
  t.is(firstWrongByte(target, image), undefined);

  rmSync(target);
  for (let i = 0; i < 201; i++) appendFileSync(target, garbage);
  const loop = sh('losetup', '--find', '--show', target).trim();
  t.is((await ws.cli('restore', 'disk', loop)).status, 1, 'not without --overwrite');
  await ws.ok('restore', 'disk', loop, '--overwrite');
  t.is(firstWrongByte(loop, image), undefined);
  t.is(Buffer.compare(readPart(loop, 200 * MIB, MIB), garbage), 0, 'what lies behind the session on a larger device is not touched');
  sh('losetup', '--detach', loop);
});
