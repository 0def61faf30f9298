/** `timeband open`: file systems of several kinds, dirty journals, partitions, and what happens when a step fails. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type FileSystem, makeImage, withMounted } from '../support/images.ts';
import { makeFastRepository } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { copyRealTree, listingDifference, listTree } from '../support/tree.ts';
import { sh, type Workspace, workspace } from '../support/workspace.ts';

const MIB = 1_048_576;
const KINDS: readonly { readonly type: FileSystem; readonly sizeBytes: number }[] = [
  { type: 'ext4', sizeBytes: 64 * MIB },
  { type: 'xfs', sizeBytes: 320 * MIB },
  { type: 'btrfs', sizeBytes: 128 * MIB },
];

/** Loop devices whose file is under the test's folder, and mounts there. */
function leftovers(ws: Workspace): string[] {
  const loops = sh('losetup', '--list', '--noheadings', '--output', 'NAME,BACK-FILE').split('\n');
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return [...loops, ...mounts].filter((line) => line.includes(ws.root));
}

async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  return ws;
}

for (const { type, sizeBytes } of KINDS) {
  test.serial(`an image of ${type} opens to the tree that was in it`, async (t) => {
    const ws = await ready(t);
    const image = ws.at('disk.img');
    makeImage(image, sizeBytes, type);
    const tree = await withMounted(image, ws.folder('live'), () => {
      copyRealTree(ws.at('live'), ['commander', 'fast-check']);
      return listTree(ws.at('live'));
    });
    await ws.ok('sync', `disk=${image}`);
    const folder = ws.folder('tree');
    const opened = await ws.json('open', 'disk', folder);
    t.is(opened.fileSystem, type);
    t.is(listingDifference(listTree(folder), tree), undefined);
    t.throws(() => writeFileSync(path.join(folder, 'x'), ''), { code: 'EROFS' });
    await ws.ok('close', folder);
    t.deepEqual(leftovers(ws), []);
    await ws.ok('restore', 'disk', ws.at('restored.img'));
    t.is(firstWrongByte(ws.at('restored.img'), image), undefined);
  });

  test.serial(`an image of ${type} that was copied while mounted opens without replay of its journal, beside the live one`, async (t) => {
    const ws = await ready(t);
    const live = ws.at('live.img');
    const copy = ws.at('copy.img');
    makeImage(live, sizeBytes, type);
    const folder = ws.folder('tree');
    await withMounted(live, ws.folder('live'), () => copyRealTree(ws.at('live'), ['commander']));
    await withMounted(live, ws.folder('live'), async () => {
      const tree = listTree(ws.at('live', 'commander'));
      sh('dd', 'if=/dev/zero', `of=${ws.at('live', 'dirty')}`, 'bs=4k', 'count=1', 'conv=fsync', 'status=none');
      sh('cp', '--sparse=always', live, copy);
      writeFileSync(ws.at('live', 'made after the copy'), '');
      const loop = sh('losetup', '--find', '--show', '--read-only', copy).trim();
      if (type !== 'btrfs') t.throws(() => sh('mount', '-o', 'ro', loop, folder), undefined, 'the journal of this image is dirty indeed');
      sh('losetup', '--detach', loop);
      await ws.ok('sync', `disk=${copy}`);
      await ws.ok('open', 'disk', folder);
      t.is(listingDifference(listTree(path.join(folder, 'commander')), tree), undefined);
      t.false(existsSync(path.join(folder, 'made after the copy')), 'the session is shown, not the live file system of the same UUID');
      await ws.ok('close', folder);
    });
    t.deepEqual(leftovers(ws), []);
  });
}

interface Layout {
  readonly title: string;
  /** For sfdisk. */
  readonly script: string;
  /** Numbers of the partitions that hold a file system, with where they are. */
  readonly partitions: readonly { readonly number: number; readonly startMib: number; readonly sizeMib: number }[];
}

const LAYOUTS: readonly Layout[] = [
  {
    title: 'GPT with two partitions',
    script: 'label: gpt\n1MiB 24MiB\n25MiB 30MiB\n',
    partitions: [
      { number: 1, startMib: 1, sizeMib: 24 },
      { number: 2, startMib: 25, sizeMib: 30 },
    ],
  },
  {
    title: 'MBR with a primary and a logical partition',
    script: 'label: dos\n1MiB 24MiB 83\n25MiB 38MiB 5\n26MiB 30MiB 83\n',
    partitions: [
      { number: 1, startMib: 1, sizeMib: 24 },
      { number: 5, startMib: 26, sizeMib: 30 },
    ],
  },
];

/** Makes a partitioned disk with an ext4 file system in each partition; gives the listings of their trees. */
async function makeDisk(ws: Workspace, layout: Layout): Promise<{ readonly image: string; readonly trees: string[] }> {
  const image = ws.at('disk.img');
  writeParts(image, 64 * MIB);
  writeFileSync(ws.at('script'), layout.script);
  sh('/bin/sh', '-c', `sfdisk --quiet ${image} < ${ws.at('script')}`);
  const trees: string[] = [];
  for (const { number, startMib, sizeMib } of layout.partitions) {
    const part = ws.at(`part-${number}.img`);
    makeImage(part, sizeMib * MIB);
    trees.push(
      await withMounted(part, ws.folder('live'), () => {
        copyRealTree(ws.at('live'), ['commander']);
        writeFileSync(ws.at('live', `partition ${number}`), layout.title);
        return listTree(ws.at('live'));
      }),
    );
    sh('dd', `if=${part}`, `of=${image}`, 'bs=1M', `seek=${startMib}`, 'conv=notrunc,sparse', 'status=none');
  }
  return { image, trees };
}

for (const layout of LAYOUTS) {
  test.serial(`open --partition shows each file system of a disk of ${layout.title}`, async (t) => {
    const ws = await ready(t);
    const { image, trees } = await makeDisk(ws, layout);
    await ws.ok('sync', `disk=${image}`);
    const folder = ws.folder('tree');
    for (const [i, { number }] of layout.partitions.entries()) {
      await ws.ok('open', 'disk', folder, '--partition', String(number));
      t.is(listingDifference(listTree(folder), trees[i] ?? ''), undefined, `partition ${number}`);
      await ws.ok('close', folder);
    }
    const without = await ws.cli('open', 'disk', folder);
    t.is(without.status, 2);
    for (const { number, sizeMib } of layout.partitions) t.regex(without.stderr, new RegExp(`\\b${number} \\(${sizeMib * MIB} bytes\\)`));
    t.is((await ws.cli('open', 'disk', folder, '--partition', '9')).status, 2);
    t.deepEqual(leftovers(ws), []);
  });
}

test.serial('open of an image without a file system fails and leaves no mount, no loop device and no process', async (t) => {
  const ws = await ready(t);
  writeParts(ws.at('disk.img'), 8 * MIB, [{ at: 5 * MIB, bytes: new Uint8Array(4096).fill(3) }]);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  const { status, stdout } = await ws.cli('open', 'disk', ws.folder('tree'), '--json');
  t.is(status, 1);
  t.is(JSON.parse(stdout).error.code, 'UNSUPPORTED');
  t.deepEqual(leftovers(ws), []);
  t.is(sh('/bin/sh', '-c', `grep -al ${ws.root} /proc/[0-9]*/environ 2>/dev/null || true`), '', 'nobody serves the mount any more');
});

test.serial('open at a folder that is not there, or with something mounted at it, fails and mounts nothing', async (t) => {
  const ws = await ready(t);
  makeImage(ws.at('disk.img'), 16 * MIB);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  t.is((await ws.cli('open', 'disk', ws.at('nowhere'))).status, 1);
  t.false(existsSync(ws.at('nowhere')));
  const folder = ws.folder('tree');
  await ws.ok('open', 'disk', folder);
  t.is((await ws.cli('open', 'disk', folder)).status, 1);
  t.is((await ws.cli('unmount', folder)).status, 1, 'what was opened is closed, not unmounted');
  await ws.ok('close', folder);
  t.is((await ws.cli('close', folder)).status, 1, 'what is closed cannot be closed again');
  t.deepEqual(leftovers(ws), []);
});

test.serial('close while a file is in use fails and leaves it open; afterwards it succeeds', async (t) => {
  const ws = await ready(t);
  makeImage(ws.at('disk.img'), 16 * MIB);
  await withMounted(ws.at('disk.img'), ws.folder('live'), () => writeFileSync(ws.at('live', 'file'), 'content'));
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  const folder = ws.folder('tree');
  await ws.ok('open', 'disk', folder);
  const { status, stdout } = await ws.shell(`exec 3< ${folder}/file; timeband close ${folder}; echo "close: $?"; cat <&3`);
  t.is(status, 0);
  t.regex(stdout, /close: 1\ncontent/);
  await ws.ok('close', folder);
  t.deepEqual(leftovers(ws), []);
});

test.serial('an open whose server was killed is taken down by close, and the folder can be opened again', async (t) => {
  const ws = await ready(t);
  makeImage(ws.at('disk.img'), 16 * MIB);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  const folder = ws.folder('tree');
  await ws.ok('open', 'disk', folder);
  const [record = ''] = sh('find', ws.at('state', 'mounts'), '-name', '*.json').split('\n');
  process.kill(JSON.parse(readFileSync(record, 'utf8')).server.pid, 'SIGKILL');
  await ws.ok('close', folder);
  t.deepEqual(leftovers(ws), []);
  await ws.ok('open', 'disk', folder);
  t.deepEqual(listTree(folder).split(':')[0], 'lost+found');
  await ws.ok('close', folder);
});
