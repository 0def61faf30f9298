/** Writing through the driver, without a mount: a disk that keeps its size, against plain bytes. */
import { constants } from 'node:fs';
import { constants as os } from 'node:os';
import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../bands/errors.ts';
import { EBADF, ENOENT, ENOSPC, EPERM, EROFS } from '../../fuse/errno.ts';
import type { FuseStat, Reply } from '../../fuse/fuse-native.ts';
import { type Answer, CONTENT, FakeTree, Rig } from './fake-tree.ts';

/** A rig whose image is a disk in memory. */
class WritableRig extends Rig {
  readonly disk: Uint8Array;
  flushed = 0;

  constructor(disk: Uint8Array = Uint8Array.from(CONTENT)) {
    const tree = new FakeTree();
    tree.isWritable = true;
    super({}, tree);
    this.disk = disk;
    tree.image = {
      ...tree.image,
      sizeBytes: disk.length,
      read: (out, offset) => Promise.resolve(void out.set(disk.subarray(offset, offset + out.length))),
      write: (bytes, offset) => Promise.resolve(void disk.set(bytes, offset)),
      flush: () => Promise.resolve(void this.flushed++),
    };
  }

  openFor(flags: number): Promise<Answer<number>> {
    return this.ask((operations, reply) => operations.open('/image', flags, reply));
  }

  write(fd: number, bytes: Uint8Array, position: number): Promise<Answer<never>> {
    return this.ask((operations, reply) => operations.write?.('/image', fd, bytes, bytes.length, position, reply));
  }

  fsync(fd: number): Promise<Answer<never>> {
    return this.ask((operations, reply) => operations.fsync?.('/image', 0, fd, reply));
  }
}

test('a driver of a tree that is read-only knows no operation that writes', (t) => {
  const { operations } = new Rig();
  for (const name of ['write', 'fsync', 'truncate', 'ftruncate'] as const) t.is(operations[name], undefined);
});

test('a writable image says so in its mode, and opens in every way', async (t) => {
  const rig = new WritableRig();
  const { value } = await rig.ask<FuseStat>((operations, reply) => operations.getattr('/image', reply));
  t.is(value?.mode, constants.S_IFREG | 0o600);
  for (const flags of [constants.O_RDONLY, constants.O_WRONLY, constants.O_RDWR, constants.O_RDWR | constants.O_DIRECT])
    t.is((await rig.openFor(flags)).status, 0, `flags ${flags}`);
});

test('an image of a writable tree that cannot be written itself opens for reading only, and is let go of', async (t) => {
  const tree = new FakeTree();
  tree.isWritable = true;
  const rig = new Rig({}, tree);
  t.is((await rig.ask<number>((operations, reply) => operations.open('/image', constants.O_RDWR, reply))).status, EROFS);
  t.is(tree.released, 1);
  const fd = await rig.openImage();
  const write = (reply: Reply): void => rig.operations.write?.('/image', fd, new Uint8Array(5), 5, 0, reply);
  t.is((await rig.ask((_operations, reply) => write(reply))).status, EBADF);
});

test('a disk has an end: a write over it is cut there, one behind it finds no room', async (t) => {
  const rig = new WritableRig();
  const fd = (await rig.openFor(constants.O_RDWR)).value ?? 0;
  t.deepEqual(await rig.write(fd, new Uint8Array(20).fill(9), CONTENT.length - 5), { status: 5, value: undefined, replies: 1 });
  t.deepEqual([...rig.disk.subarray(-6)], [CONTENT.at(-6), 9, 9, 9, 9, 9]);
  t.is((await rig.write(fd, new Uint8Array(1), CONTENT.length)).status, ENOSPC);
  t.is((await rig.write(fd, new Uint8Array(1), CONTENT.length + 4096)).status, ENOSPC);
  t.is((await rig.write(fd, new Uint8Array(0), CONTENT.length)).status, 0);
  t.is((await rig.write(99, new Uint8Array(1), 0)).status, EBADF);
});

test('a disk keeps its size: cutting and growing are refused, saying the size that it has is not', async (t) => {
  const rig = new WritableRig();
  const resize = (path: string, sizeBytes: number): Promise<Answer<never>> =>
    rig.ask((operations, reply) => operations.truncate?.(path, sizeBytes, reply));
  t.is((await resize('/image', 0)).status, EPERM);
  t.is((await resize('/image', CONTENT.length + 1)).status, EPERM);
  t.is((await resize('/image', CONTENT.length)).status, 0);
  t.is((await resize('/nowhere', 0)).status, ENOENT);
  t.is((await resize('/folder', 0)).status, EPERM);
  const fd = (await rig.openFor(constants.O_RDWR)).value ?? 0;
  t.is((await rig.ask((operations, reply) => operations.ftruncate?.('/image', fd, 5, reply))).status, EPERM);
  t.deepEqual(rig.disk, CONTENT);
});

test('fsync flushes, and its error reaches whoever asked', async (t) => {
  const rig = new WritableRig();
  const fd = (await rig.openFor(constants.O_RDWR)).value ?? 0;
  t.is((await rig.fsync(fd)).status, 0);
  t.is(rig.flushed, 1);
  t.is((await rig.fsync(99)).status, EBADF);
  Object.assign(rig.tree.image, { flush: () => Promise.reject(new TimebandError('x', { code: 'IO_ERROR' })) });
  t.deepEqual(await rig.fsync(fd), { status: -os.errno.EIO, value: undefined, replies: 1 });
  t.deepEqual(rig.errors, ['fsync /image']);
});

for (const [code, errno] of [
  ['NO_SPACE', os.errno.ENOSPC],
  ['IO_ERROR', os.errno.EIO],
  ['BAND_CORRUPT', os.errno.EIO],
] as const)
  test(`a write that fails with ${code} is answered once with its errno, and logged`, async (t) => {
    const rig = new WritableRig();
    Object.assign(rig.tree.image, { write: () => Promise.reject(new TimebandError('x', { code })) });
    const fd = (await rig.openFor(constants.O_RDWR)).value ?? 0;
    t.deepEqual(await rig.write(fd, new Uint8Array(10), 0), { status: -errno, value: undefined, replies: 1 });
    t.deepEqual(rig.errors, ['write /image']);
  });

test('any requests leave what they leave on plain bytes', async (t) => {
  const command = fc.record({
    kind: fc.constantFrom('read', 'write', 'fsync'),
    at: fc.nat(1100),
    length: fc.nat(300),
    fill: fc.integer({ min: 1, max: 255 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 40 }), async (commands) => {
      const rig = new WritableRig();
      const model = Uint8Array.from(CONTENT);
      const fd = (await rig.openFor(constants.O_RDWR)).value ?? 0;
      for (const { kind, at, length, fill } of commands) {
        const fits = Math.max(0, Math.min(length, model.length - at));
        const bytes = new Uint8Array(length).fill(fill);
        if (kind === 'fsync') t.is((await rig.fsync(fd)).status, 0);
        else if (kind === 'write') {
          model.set(bytes.subarray(0, fits), at > model.length ? model.length : at);
          t.is((await rig.write(fd, bytes, at)).status, length > 0 && fits === 0 ? ENOSPC : fits);
        } else {
          t.is((await rig.read(fd, bytes, at)).status, fits);
          t.deepEqual(bytes.subarray(0, fits), model.subarray(at, at + fits));
        }
      }
      t.deepEqual(rig.disk, model);
    }),
    { numRuns: 60 },
  );
});
