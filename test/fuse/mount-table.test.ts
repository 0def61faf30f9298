import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TimebandError } from '../../bands/errors.ts';
import { isDeadMount, mountsAt, parseMountinfo, unmountPath } from '../../fuse/mount-table.ts';

const rootTest = process.getuid?.() === 0 ? test.serial : test.serial.skip;
/** Names that a shell, an option parser or the kernel's escapes would trip over. */
const NAMES = [
  'plain',
  'with spaces',
  '$(touch INJ)',
  '`touch INJ`;touch INJ',
  '"quotes\' & more|',
  'tab\there\nnewline',
  'back\\slash\\040',
  'ü 木',
  '-o remount',
];

/** A folder with a tmpfs at `name`; unmounted and removed with the test. */
function tmpfs(t: ExecutionContext, name: string): string {
  const root = mkdtempSync(path.join(tmpdir(), 'timeband-mnt-'));
  const folder = path.join(root, name);
  mkdirSync(folder);
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', folder]);
  t.teardown(() => {
    if (mountsAt(folder).length > 0) execFileSync('umount', ['-l', folder]);
    rmSync(root, { recursive: true, force: true });
  });
  return folder;
}

test('mountinfo lines with none, one and several optional fields are read alike', (t) => {
  const text = [
    '22 1 254:0 / / rw,relatime - ext4 /dev/vda rw',
    '36 22 0:32 / /sys/fs/fuse/connections rw,nosuid shared:18 - fusectl fusectl rw',
    '98 22 0:52 /sub /mnt rw,nosuid shared:1 master:7 propagate_from:2 unbindable - fuse.timeband timeband:/backup ro,user_id=0',
    '',
  ].join('\n');
  t.deepEqual(parseMountinfo(text), [
    { id: 22, device: '254:0', mountPoint: '/', type: 'ext4', source: '/dev/vda' },
    { id: 36, device: '0:32', mountPoint: '/sys/fs/fuse/connections', type: 'fusectl', source: 'fusectl' },
    { id: 98, device: '0:52', mountPoint: '/mnt', type: 'fuse.timeband', source: 'timeband:/backup' },
  ]);
});

test('octal escapes of spaces, tabs, newlines and backslashes are undone once, and only they', (t) => {
  const [entry] = parseMountinfo('5 1 0:9 / /a\\040b\\011c\\012d\\134e\\134040f/ü rw - fuse.timeband timeband:/x\\040y ro\n');
  t.is(entry?.mountPoint, '/a b\tc\nd\\e\\040f/ü');
  t.is(entry?.source, 'timeband:/x y');
});

test('an empty mount table has no entries', (t) => {
  t.deepEqual(parseMountinfo(''), []);
});

test('nothing is mounted at a path that is none, and what is mounted at the root is found', (t) => {
  t.deepEqual(mountsAt('/no such folder'), []);
  t.true(mountsAt('/').length > 0);
});

test('a folder that is there and one that is not are no dead mounts', async (t) => {
  t.false(await isDeadMount(tmpdir()));
  t.false(await isDeadMount('/no such folder'));
});

for (const name of NAMES) {
  rootTest(`a mount at a folder called ${JSON.stringify(name)} is found and unmounted, and no shell runs`, async (t) => {
    const folder = tmpfs(t, name);
    t.is(mountsAt(folder).at(-1)?.type, 'tmpfs');
    await unmountPath(folder);
    t.deepEqual(mountsAt(folder), []);
    t.false(existsSync('INJ'), 'in the working folder');
    t.false(existsSync(path.join(path.dirname(folder), 'INJ')), 'beside the mount');
  });
}

rootTest('the topmost of two mounts at one folder comes last and goes first', async (t) => {
  const folder = tmpfs(t, 'twice');
  execFileSync('mount', ['-t', 'tmpfs', 'upper', folder]);
  t.deepEqual(
    mountsAt(folder).map((entry) => entry.source),
    ['tmpfs', 'upper'],
  );
  await unmountPath(folder);
  t.deepEqual(
    mountsAt(folder).map((entry) => entry.source),
    ['tmpfs'],
  );
});

rootTest('a mount with an open file is busy and stays; lazily it goes', async (t) => {
  const folder = tmpfs(t, 'busy');
  writeFileSync(path.join(folder, 'file'), 'x');
  const fd = openSync(path.join(folder, 'file'), 'r');
  t.teardown(() => closeSync(fd));
  const error = await t.throwsAsync(unmountPath(folder), { instanceOf: TimebandError });
  t.is(error?.code, 'MOUNT_BUSY');
  t.is(error?.path, folder);
  t.is(mountsAt(folder).length, 1);
  await unmountPath(folder, { isLazy: true });
  t.deepEqual(mountsAt(folder), []);
});

rootTest('unmounting what is not mounted, or does not exist, says so', async (t) => {
  const root = mkdtempSync(path.join(tmpdir(), 'timeband-mnt-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const folder of [root, path.join(root, 'missing')]) {
    const error = await t.throwsAsync(unmountPath(folder), { instanceOf: TimebandError });
    t.is(error?.code, 'NOT_MOUNTED', folder);
  }
});
