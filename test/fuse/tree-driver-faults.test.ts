/** Whatever the tree does, a request is answered once: never twice, which corrupts the next; never not at all, which hangs the reader. */
import { constants } from 'node:os';
import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../bands/errors.ts';
import type { FuseOperations, Reply } from '../../fuse/fuse-native.ts';
import type { OpenImage } from '../../fuse/image-tree.ts';
import { CONTENT, Rig } from './fake-tree.ts';

const { errno } = constants;
/** Ways of a step to fail, and what the reader is told. */
const FAULTS: readonly { readonly name: string; readonly fail: () => Promise<never>; readonly status: number }[] = [
  { name: 'rejects with damage', fail: () => Promise.reject(new TimebandError('x', { code: 'BAND_CORRUPT' })), status: -errno.EIO },
  { name: 'rejects with absence', fail: () => Promise.reject(new TimebandError('x', { code: 'SESSION_NOT_FOUND' })), status: -errno.ENOENT },
  { name: 'rejects with what nobody foresaw', fail: () => Promise.reject(new RangeError('x')), status: -errno.EIO },
  { name: 'rejects with undefined', fail: () => Promise.reject(undefined), status: -errno.EIO },
  {
    name: 'throws at once',
    fail: () => {
      throw new TimebandError('x', { code: 'RECORD_CORRUPT' });
    },
    status: -errno.EIO,
  },
];

/** The requests that ask the tree something. */
const REQUESTS: readonly { readonly operation: string; readonly send: (operations: FuseOperations, reply: Reply<unknown>) => void }[] = [
  { operation: 'readdir', send: (operations, reply) => operations.readdir('/image', reply) },
  { operation: 'getattr', send: (operations, reply) => operations.getattr('/image', reply) },
  { operation: 'readlink', send: (operations, reply) => operations.readlink('/image', reply) },
  { operation: 'open', send: (operations, reply) => operations.open('/image', 0, reply) },
];

for (const { name, fail, status } of FAULTS) {
  for (const { operation, send } of REQUESTS) {
    test(`${operation} is answered once with the errno, and logged, where the tree ${name}`, async (t) => {
      const rig = new Rig();
      Object.assign(rig.tree, { list: fail, look: fail, open: fail });
      t.deepEqual(await rig.ask(send), { status, value: undefined, replies: 1 });
      t.deepEqual(rig.errors, [`${operation} /image`]);
      t.is(rig.driver.openFiles, 0);
    });
  }

  test(`read and release are answered once with the errno where the image ${name}`, async (t) => {
    const rig = new Rig();
    rig.tree.image = { sizeBytes: CONTENT.length, read: fail, release: fail };
    const fd = await rig.openImage();
    t.deepEqual(await rig.read(fd, new Uint8Array(10), 0), { status, value: undefined, replies: 1 });
    t.deepEqual(await rig.ask((operations, reply) => operations.release('/image', fd, reply)), { status, value: undefined, replies: 1 });
    t.deepEqual(rig.errors, ['read /image', 'release /image']);
    t.is(rig.driver.openFiles, 0, 'or the process would wait for ever to end');
  });
}

test('a read that fails behind the end of the image is no read: it gives no bytes and asks nobody', async (t) => {
  const rig = new Rig();
  rig.tree.image = { ...rig.tree.image, read: () => Promise.reject(new Error('asked')) };
  const fd = await rig.openImage();
  t.deepEqual(await rig.read(fd, new Uint8Array(10), CONTENT.length), { status: 0, value: undefined, replies: 1 });
});

test('requests that are answered late and out of order each get their own answer', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7], { minLength: 8 }),
      fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
      async (order, fates) => {
        const rig = new Rig();
        const finish: (() => void)[] = [];
        const image: OpenImage = {
          ...rig.tree.image,
          read: (out, offset) =>
            new Promise((resolve, reject) => {
              finish[offset] = () => (fates[offset] === true ? resolve(void out.fill(offset)) : reject(new Error('fate')));
            }),
        };
        rig.tree.image = image;
        const fd = await rig.openImage();
        const buffers = order.map(() => new Uint8Array(3));
        const answers = buffers.map((buffer, offset) => rig.read(fd, buffer, offset));
        for (const i of order) finish[i]?.();
        for (const [i, answer] of (await Promise.all(answers)).entries()) {
          t.deepEqual([answer.status, answer.replies], [fates[i] === true ? 3 : -errno.EIO, 1]);
          t.deepEqual([...(buffers[i] ?? [])], fates[i] === true ? [i, i, i] : [0, 0, 0]);
        }
      },
    ),
    { numRuns: 30 },
  );
});

test('a log that fails loses no answer and ends nothing; the answer comes before the log', async (t) => {
  const order: string[] = [];
  const rig = new Rig({
    onError: () => {
      order.push('log');
      throw new Error('the disk is full');
    },
  });
  rig.tree.look = () => Promise.reject(new TimebandError('x', { code: 'BAND_CORRUPT' }));
  const answer = await rig.ask((operations, reply) =>
    operations.getattr('/image', (status) => {
      order.push('answer');
      reply(status);
    }),
  );
  t.deepEqual(answer, { status: -errno.EIO, value: undefined, replies: 1 });
  t.deepEqual(order, ['answer', 'log']);
});
