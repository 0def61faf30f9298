import { constants } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { EBADF, EINVAL, ENOENT, EROFS } from '../../fuse/errno.ts';
import type { FuseStat, FuseStatfs } from '../../fuse/fuse-native.ts';
import { sameBytes } from '../support/bytes.ts';
import { CONTENT, MTIME_MS, Rig } from './fake-tree.ts';

function stat(rig: Rig, path: string): ReturnType<typeof rig.ask<FuseStat>> {
  return rig.ask<FuseStat>((operations, reply) => operations.getattr(path, reply));
}

test('a folder lists its names; a path that is no folder does not', async (t) => {
  const rig = new Rig();
  const list = (path: string) => rig.ask<string[]>((operations, reply) => operations.readdir(path, reply));
  t.deepEqual(await list('/'), { status: 0, value: ['image', 'latest', 'folder'], replies: 1 });
  t.deepEqual(await list('/nowhere'), { status: ENOENT, value: undefined, replies: 1 });
});

test('an image has its size in bytes and in blocks of 512, its time, and can only be read', async (t) => {
  const { value } = await stat(new Rig(), '/image');
  t.is(value?.size, CONTENT.length);
  t.is(value?.blocks, 2);
  t.is(value?.mtime.getTime(), MTIME_MS);
  t.is(value?.mode, constants.S_IFREG | 0o400);
  t.is(value?.nlink, 1);
  t.is(value?.uid, process.getuid?.());
  t.is(value?.gid, process.getgid?.());
});

test('sizes beyond 32 bits are told exactly', async (t) => {
  const rig = new Rig();
  const sizeBytes = 2 ** 52 + 512;
  rig.tree.look = () => Promise.resolve({ kind: 'file', mtimeMs: 0, sizeBytes });
  const { value } = await stat(rig, '/image');
  t.is(value?.size, sizeBytes);
  t.is(value?.blocks, sizeBytes / 512);
});

test('a folder can be entered by its owner, by others only where the mount lets them in', async (t) => {
  t.is((await stat(new Rig(), '/folder')).value?.mode, constants.S_IFDIR | 0o500);
  const open = new Rig({ allowOther: true });
  t.is((await stat(open, '/folder')).value?.mode, constants.S_IFDIR | 0o555);
  t.is((await stat(open, '/image')).value?.mode, constants.S_IFREG | 0o444);
  t.is((await stat(open, '/latest')).value?.mode, constants.S_IFLNK | 0o777);
});

test("a link's size is its target's length in bytes", async (t) => {
  const rig = new Rig();
  t.is((await stat(rig, '/latest')).value?.size, Buffer.byteLength('ü/image'));
  t.deepEqual(await rig.ask<string>((operations, reply) => operations.readlink('/latest', reply)), { status: 0, value: 'ü/image', replies: 1 });
});

test('what is absent has no status and no target; what is no link has no target', async (t) => {
  const rig = new Rig();
  const target = (path: string) => rig.ask<string>((operations, reply) => operations.readlink(path, reply));
  t.deepEqual(await stat(rig, '/nowhere'), { status: ENOENT, value: undefined, replies: 1 });
  t.deepEqual(await target('/nowhere'), { status: ENOENT, value: undefined, replies: 1 });
  t.deepEqual(await target('/image'), { status: EINVAL, value: undefined, replies: 1 });
});

test('any way of opening for writing is refused as on a read-only file system, before the tree is asked', async (t) => {
  const rig = new Rig();
  rig.tree.open = () => Promise.reject(new Error('asked'));
  for (const flags of [constants.O_WRONLY, constants.O_RDWR, constants.O_RDWR | constants.O_TRUNC, constants.O_WRONLY | constants.O_APPEND]) {
    t.is((await rig.ask<number>((operations, reply) => operations.open('/image', flags, reply))).status, EROFS, `flags ${flags}`);
  }
  t.deepEqual(rig.errors, []);
});

test('flags that do not write are no obstacle', async (t) => {
  const rig = new Rig();
  for (const flags of [constants.O_RDONLY, constants.O_NONBLOCK, constants.O_NOATIME, constants.O_DIRECT]) {
    t.is((await rig.ask<number>((operations, reply) => operations.open('/image', flags, reply))).status, 0, `flags ${flags}`);
  }
});

test('each open has a handle of its own, and the driver counts those that are open', async (t) => {
  const rig = new Rig();
  const handles = [await rig.openImage(), await rig.openImage(), await rig.openImage()];
  t.is(new Set(handles).size, 3);
  t.true(handles.every((handle) => Number.isInteger(handle) && handle > 0 && handle < 2 ** 31));
  t.is(rig.driver.openFiles, 3);
  for (const handle of handles) t.is((await rig.ask((operations, reply) => operations.release('/image', handle, reply))).status, 0);
  t.is(rig.driver.openFiles, 0);
  t.is(rig.tree.released, 3);
});

test('opening what is absent is ENOENT and leaves nothing open', async (t) => {
  const rig = new Rig();
  t.deepEqual(await rig.ask<number>((operations, reply) => operations.open('/nowhere', 0, reply)), { status: ENOENT, value: undefined, replies: 1 });
  t.is(rig.driver.openFiles, 0);
});

test('a read gives as many bytes as the image has there, and touches nothing behind them', async (t) => {
  const rig = new Rig();
  const fd = await rig.openImage();
  await fc.assert(
    fc.asyncProperty(fc.nat(1200), fc.nat(1200), fc.nat(50), async (position, length, spare) => {
      const buffer = new Uint8Array(length + spare).fill(0xee);
      const answer = await rig.read(fd, buffer, position, length);
      const count = Math.max(0, Math.min(length, CONTENT.length - position));
      t.is(answer.status, count);
      t.is(answer.replies, 1);
      sameBytes(t, buffer.subarray(0, count), CONTENT.subarray(position, position + count));
      t.true(buffer.subarray(count).every((byte) => byte === 0xee));
    }),
    { numRuns: 100 },
  );
});

test('the tree is never asked for bytes beyond the end, nor for none', async (t) => {
  const rig = new Rig();
  const asked: [number, number][] = [];
  rig.tree.image = { ...rig.tree.image, read: (out, offset) => Promise.resolve(void asked.push([offset, out.length])) };
  const fd = await rig.openImage();
  for (const [position, length] of [
    [990, 20],
    [999, 1],
    [1000, 1],
    [2 ** 40, 4096],
    [0, 0],
  ] as const)
    await rig.read(fd, new Uint8Array(length), position);
  t.deepEqual(asked, [
    [990, 10],
    [999, 1],
  ]);
});

test('the reads of one handle share a cursor, those of another have their own', async (t) => {
  const rig = new Rig();
  const cursors: unknown[] = [];
  rig.tree.image = { ...rig.tree.image, read: (_out, _offset, cursor) => Promise.resolve(void cursors.push(cursor)) };
  const [a, b] = [await rig.openImage(), await rig.openImage()];
  for (const fd of [a, b, a]) await rig.read(fd, new Uint8Array(10), 0);
  t.is(cursors[0], cursors[2]);
  t.not(cursors[0], cursors[1]);
});

test('a handle that was never given, or was released, cannot be read', async (t) => {
  const rig = new Rig();
  const fd = await rig.openImage();
  t.deepEqual(await rig.read(fd + 1, new Uint8Array(10), 0), { status: EBADF, value: undefined, replies: 1 });
  await rig.ask((operations, reply) => operations.release('/image', fd, reply));
  t.deepEqual(await rig.read(fd, new Uint8Array(10), 0), { status: EBADF, value: undefined, replies: 1 });
});

test('a handle released twice releases its image once', async (t) => {
  const rig = new Rig();
  const fd = await rig.openImage();
  for (let i = 0; i < 2; i++) t.is((await rig.ask((operations, reply) => operations.release('/image', fd, reply))).replies, 1);
  t.is(rig.tree.released, 1);
});

test('the size that df shows is right for volumes whose count of small blocks has more than 32 bits', async (t) => {
  const rig = new Rig();
  for (const totalBytes of [0, 1, 2 ** 45]) {
    rig.tree.totalBytes = totalBytes;
    const { status, value, replies } = await rig.ask<FuseStatfs>((operations, reply) => operations.statfs('/', reply));
    t.deepEqual([status, replies], [0, 1]);
    const sizeBytes = (value?.blocks ?? 0) * (value?.frsize ?? 0);
    t.true(sizeBytes >= totalBytes && sizeBytes < totalBytes + 2 ** 20);
    t.true((value?.blocks ?? 0) < 2 ** 32);
    t.is(value?.bavail, 0);
  }
});
