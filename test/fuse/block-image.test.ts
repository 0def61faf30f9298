import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import {
  attachLoop,
  detachLoop,
  loopBackingFile,
  mountFileSystem,
  mountOptionsFor,
  parsePartitions,
  readFileSystemType,
  readPartitions,
} from '../../fuse/block-image.ts';
import { fill, sameBytes } from '../support/bytes.ts';
import { makeImage, withMounted } from '../support/images.ts';
import { codeOf } from '../support/library.ts';
import { sh, workspace } from '../support/workspace.ts';

const rootTest = process.getuid?.() === 0 ? test.serial : test.serial.skip;
const MIB = 1_048_576;

/** An image with the partitions of an sfdisk script. */
function partitioned(file: string, script: string, sizeBytes = 16 * MIB): void {
  writeFileSync(file, '');
  truncateSync(file, sizeBytes);
  writeFileSync(`${file}.sfdisk`, script);
  sh('sh', '-c', `sfdisk --quiet '${file}' < '${file}.sfdisk'`);
}

/** FAT12 as mkfs.fat makes it, whose first sector ends like a partition table. */
function fatImage(): Uint8Array {
  const bytes = Buffer.alloc(MIB);
  bytes.set([0xeb, 0x3c, 0x90]);
  bytes.write('mkfs.fat', 3);
  bytes.set([0, 2, 4, 1, 0, 2, 0, 2, 0, 8, 0xf8, 2, 0], 11); // 512-byte sectors, 4 a cluster, 2 FATs, 2048 sectors
  bytes[38] = 0x29;
  bytes.write('NO NAME    FAT12   ', 43);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

/** A loop device that goes with the test. */
async function attached(t: ExecutionContext, ...args: Parameters<typeof attachLoop>): Promise<string> {
  const loop = await attachLoop(...args);
  t.teardown(async () => {
    // The test may have detached it, and another one may have the device by now.
    if ((await loopBackingFile(loop)) === args[0]) await detachLoop(loop);
  });
  return loop;
}

test("partx's lines become numbers, offsets and sizes in bytes; gaps in the numbers stay", (t) => {
  t.deepEqual(parsePartitions('1 2048 1048576 0x83\n 3  4096  2097152 \n'), [
    { number: 1, offset: 1_048_576, sizeBytes: 1_048_576, type: '0x83' },
    { number: 3, offset: 2_097_152, sizeBytes: 2_097_152, type: '' },
  ]);
});

test('offsets beyond 32 bits are exact', (t) => {
  t.deepEqual(parsePartitions('1 8589934592 4398046511104\n'), [{ number: 1, offset: 2 ** 42, sizeBytes: 2 ** 42, type: '' }]);
});

test('nothing, and lines that are no partitions, give none', (t) => {
  for (const text of ['', '\n', 'NR START SIZE\n', '1 2048\n', '1 x 5\n']) t.deepEqual(parsePartitions(text), [], JSON.stringify(text));
});

test('a file system with a journal is mounted without replaying it, any other just read-only', (t) => {
  t.is(mountOptionsFor('ext4'), 'ro,noload');
  t.is(mountOptionsFor('ext3'), 'ro,noload');
  t.is(mountOptionsFor('ext2'), 'ro');
  t.regex(mountOptionsFor('xfs'), /^ro,.*norecovery/);
  t.regex(mountOptionsFor('xfs'), /nouuid/);
  t.regex(mountOptionsFor('btrfs'), /^ro,.*nologreplay/);
  t.is(mountOptionsFor('vfat'), 'ro');
  for (const type of ['ext4', 'btrfs', 'vfat']) t.is(mountOptionsFor(type, true), 'rw');
  t.is(mountOptionsFor('xfs', true), 'rw,nouuid');
});

for (const label of ['dos', 'gpt'] as const) {
  test(`the partitions of a ${label} table are found where sfdisk put them`, async (t) => {
    const image = workspace(t).at('disk.img');
    const type = label === 'dos' ? '0x83' : '0fc63daf-8483-4772-8e79-3d69d8477de4';
    partitioned(image, `label: ${label}\nstart=2048,size=4096\nstart=8192,size=16384\n`);
    t.deepEqual(await readPartitions(image), [
      { number: 1, offset: MIB, sizeBytes: 2 * MIB, type },
      { number: 2, offset: 4 * MIB, sizeBytes: 8 * MIB, type },
    ]);
  });
}

test('an image without a partition table has none: empty, noise, a bare file system, FAT with its boot signature', async (t) => {
  const space = workspace(t);
  writeFileSync(space.at('zeros'), new Uint8Array(MIB));
  writeFileSync(space.at('noise'), fill('noise', MIB));
  makeImage(space.at('ext4'), 4 * MIB);
  writeFileSync(space.at('fat'), fatImage());
  t.is(sh('blkid', '--probe', '--output', 'value', '--match-tag', 'TYPE', space.at('fat')).trim(), 'vfat');
  for (const name of ['zeros', 'noise', 'ext4', 'fat']) t.deepEqual(await readPartitions(space.at(name)), [], name);
});

test('an image that is not there is an error, not one without partitions', async (t) => {
  t.is(await codeOf(() => readPartitions(workspace(t).at('missing'))), 'TOOL_FAILED');
});

rootTest('a loop device shows the whole image, read-only, and names the file behind it until it is detached', async (t) => {
  const image = workspace(t).at('a b $(x).img');
  const bytes = fill('loop', MIB);
  writeFileSync(image, bytes);
  const loop = await attached(t, image);
  sameBytes(t, readFileSync(loop), bytes);
  t.is(sh('blockdev', '--getro', loop).trim(), '1');
  t.is(await loopBackingFile(loop), image);
  await detachLoop(loop);
  t.not(await loopBackingFile(loop), image);
});

rootTest('a loop device over a partition shows just its bytes', async (t) => {
  const image = workspace(t).at('disk.img');
  const bytes = fill('part', 4 * MIB);
  writeFileSync(image, bytes);
  const loop = await attached(t, image, { part: { offset: MIB, sizeBytes: 2 * MIB } });
  sameBytes(t, readFileSync(loop), bytes.subarray(MIB, 3 * MIB));
});

rootTest('a device that is none, and a file that is gone, are errors of the tool', async (t) => {
  const space = workspace(t);
  t.is(await codeOf(() => attachLoop(space.at('missing'))), 'TOOL_FAILED');
  t.is(await codeOf(() => detachLoop(space.at('missing'))), 'TOOL_FAILED');
  t.is(await loopBackingFile(space.at('missing')), undefined);
});

rootTest('file systems are recognised by their type; noise and zeros are none', async (t) => {
  const space = workspace(t);
  makeImage(space.at('ext4'), 4 * MIB);
  writeFileSync(space.at('noise'), fill('noise', MIB));
  writeFileSync(space.at('zeros'), new Uint8Array(MIB));
  sh('mkswap', '--quiet', space.at('zeros'));
  t.is(await readFileSystemType(space.at('ext4')), 'ext4');
  t.is(await readFileSystemType(space.at('zeros')), 'swap');
  t.is(await readFileSystemType(space.at('noise')), undefined);
});

rootTest('a file system is mounted read-only, and nothing on it is run as root or taken for a device', async (t) => {
  const space = workspace(t);
  makeImage(space.at('ext4'), 4 * MIB);
  await withMounted(space.at('ext4'), space.at('rw'), () => writeFileSync(space.at('rw', 'file'), 'text'));
  const folder = space.folder('with spaces $(x)');
  const loop = await attached(t, space.at('ext4'));
  await mountFileSystem({ device: loop, type: 'ext4', directory: folder, isWritable: false });
  try {
    t.is(readFileSync(`${folder}/file`, 'utf8'), 'text');
    t.throws(() => rmSync(`${folder}/file`), { code: 'EROFS' });
    const options = sh('findmnt', '--noheadings', '--output', 'OPTIONS', folder).trim().split(',');
    for (const option of ['ro', 'nodev', 'nosuid']) t.true(options.includes(option), option);
  } finally {
    sh('umount', folder);
  }
});

rootTest('a file system of another type than said does not mount, and the error says why', async (t) => {
  const space = workspace(t);
  makeImage(space.at('ext4'), 4 * MIB);
  const loop = await attached(t, space.at('ext4'));
  t.is(await codeOf(() => mountFileSystem({ device: loop, type: 'xfs', directory: space.folder('m'), isWritable: false })), 'TOOL_FAILED');
});
