import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { ioError } from '../../../bands/errors.ts';
import { createCursor } from '../../../bands/store/image.ts';
import { PatientTree } from '../../../src/mount/patient-tree.ts';
import { CONTENT, FakeTree } from '../../fuse/fake-tree.ts';
import { codeOf } from '../../support/library.ts';

/** Fails `times` times as `open` does with that errno, then does what it did. */
function failing<A extends unknown[], T>(errno: string, times: number, work: (...args: A) => Promise<T>): (...args: A) => Promise<T> {
  let left = times;
  return (...args) => (left-- > 0 ? Promise.reject(ioError(Object.assign(new Error(errno), { code: errno }), 'open', '/x')) : work(...args));
}

for (const errno of ['EMFILE', 'ENFILE']) {
  test(`what fails with ${errno} is tried again, whatever it is`, async (t) => {
    const tree = new FakeTree();
    for (const name of ['list', 'look', 'open'] as const) Object.assign(tree, { [name]: failing(errno, 3, tree[name] as () => Promise<unknown>) });
    tree.image = { ...tree.image, read: failing(errno, 3, tree.image.read) };
    const patient = new PatientTree(tree);
    t.deepEqual(await patient.list('/'), ['image', 'latest', 'folder']);
    t.is((await patient.look('/folder'))?.kind, 'directory');
    const image = await patient.open('/image');
    const out = new Uint8Array(100);
    await image?.read(out, 50, createCursor());
    t.deepEqual(out, CONTENT.subarray(50, 150));
    t.is(await patient.open('/missing'), undefined);
    await image?.release();
    t.is(tree.released, 1);
  });
}

test('another error is thrown at once, and one that does not end in the end', async (t) => {
  const tree = new FakeTree();
  tree.look = failing('EIO', 1, tree.look);
  tree.list = failing('EMFILE', Number.POSITIVE_INFINITY, tree.list);
  const patient = new PatientTree(tree);
  t.is(await codeOf(() => patient.look('/')), 'IO_ERROR');
  t.is(await codeOf(() => Promise.race([patient.list('/'), sleep(20_000)])), 'IO_ERROR');
});
