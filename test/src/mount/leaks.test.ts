/** Descriptors and threads of the server after many opens, and what is left after many mounts. */
import { closeSync, constants, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { isSame } from '../../support/bytes.ts';
import { BAND_256K } from '../../support/library.ts';
import { mounted, mountLab, mountTest, nothingLeft, readProc, serverOf, until, writeMixed } from './mount-support.ts';
import { type MountedScene, mountedScene } from './mounted-scene.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const CYCLES = 200;
const MOUNTS = 20;
/** What the process may still start when it is first counted: libfuse keeps ten idle threads, the pool has one thread and four descriptors a core. */
const ROOM = 10 + 4 * availableParallelism();
const SIZE = 100_000;

function descriptorsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed since the listing
    }
  });
}

function threadsOf(pid: number): number {
  return Number(/^Threads:\s+(\d+)$/m.exec(readProc(pid, 'status'))?.[1]);
}

/** Opens files past the page cache, so that each read reaches the server; reads in several bands of each; closes them. */
function readSome(files: readonly string[], round: number, bytes: Uint8Array): boolean {
  const fds = files.map((file) => openSync(file, constants.O_RDONLY | constants.O_DIRECT));
  const reads = fds.flatMap((fd) => [0, 1, 2].map((band) => ({ fd, at: ((band * 5 + round) % 10) * BAND_256K + 1000 })));
  const areRight = reads.map(({ fd, at }) => {
    const out = new Uint8Array(SIZE);
    return readSync(fd, out, 0, SIZE, at) === SIZE && isSame(out, bytes.subarray(at, at + SIZE));
  });
  for (const fd of fds) closeSync(fd);
  return !areRight.includes(false);
}

async function isFlat(t: ExecutionContext, scene: MountedScene, images: readonly string[], rounds: number): Promise<void> {
  const pid = serverOf(scene);
  for (let i = 0; i < 10; i++) t.true(readSome(images, i, scene.bytes));
  const before = { descriptors: descriptorsOf(pid).length, threads: threadsOf(pid) };
  for (let i = 0; i < rounds; i++) t.true(readSome(images, i, scene.bytes));
  await until('no band is held open', () => !descriptorsOf(pid).some((file) => file.startsWith(`${scene.repo}/`)));
  const after = { descriptors: descriptorsOf(pid).length, threads: threadsOf(pid) };
  t.true(after.descriptors <= before.descriptors + ROOM, `${after.descriptors} descriptors, ${before.descriptors} before`);
  t.true(after.threads <= before.threads + ROOM, `${after.threads} threads, ${before.threads} before`);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
}

mountTest(`${CYCLES} times open, read, close leave the server with the descriptors and threads that it had`, async (t) => {
  const scene = await mountedScene(t, pool);
  await isFlat(t, scene, [scene.image], CYCLES);
});

mountTest('many images open at the same time are given back when they are closed', async (t) => {
  const scene = await mountedScene(t, pool);
  for (let i = 0; i < 11; i++) await scene.sync('v', scene.at('img'), { isForced: true });
  const folder = path.dirname(path.dirname(scene.image));
  const images = readdirSync(folder)
    .filter((name) => name !== 'latest')
    .map((name) => path.join(folder, name, 'image'));
  t.is(images.length, 12);
  await isFlat(t, scene, images, 10);
});

mountTest(`${MOUNTS} times mount and unmount: no server has more descriptors than it needs, and nothing is left`, async (t) => {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'cycles', 1);
  await space.sync('v', space.at('img'));
  const before = descriptorsOf(process.pid).length;
  for (let i = 0; i < MOUNTS; i++) {
    const folder = await mounted(space);
    const open = descriptorsOf(serverOf(space));
    t.true(open.length <= 20 + ROOM, open.join(' '));
    t.is(open.filter((file) => file === '/dev/fuse').length, 1);
    await space.ok('unmount', folder);
  }
  await nothingLeft(t, space);
  t.deepEqual(readdirSync(space.at('state', 'mounts')), []);
  t.true(descriptorsOf(process.pid).length <= before + ROOM);
});
