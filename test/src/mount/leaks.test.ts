/** Descriptors and threads of the server after many opens, and what is left after many mounts. */
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { BAND_256K } from '../../support/library.ts';
import { mounted, mountLab, mountTest, nothingLeft, readProc, serverOf, until, writeMixed } from './mount-support.ts';
import { mountedScene } from './mounted-scene.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const CYCLES = 200;
const MOUNTS = 20;
/** libfuse keeps up to ten idle threads, however many it began with. */
const IDLE_THREADS = 10;

function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function threadsOf(pid: number): number {
  return Number(/^Threads:\s+(\d+)$/m.exec(readProc(pid, 'status'))?.[1]);
}

mountTest(`${CYCLES} times open, read, close leave the server with the descriptors and threads that it had`, async (t) => {
  const scene = await mountedScene(t, pool);
  const pid = serverOf(scene);
  const cycle = (i: number): void => {
    const fd = openSync(scene.image, 'r');
    t.true(scene.isReadable(fd, i % 11));
    readSync(fd, new Uint8Array(BAND_256K), 0, BAND_256K, (i % 11) * BAND_256K);
    closeSync(fd);
  };
  t.is(readFileSync(scene.image).length, scene.bytes.length);
  for (let i = 0; i < 20; i++) cycle(i);
  const before = { descriptors: descriptorsOf(pid), threads: threadsOf(pid) };
  for (let i = 0; i < CYCLES; i++) cycle(i);
  await until('the last file is released', () => descriptorsOf(pid) <= before.descriptors);
  t.true(threadsOf(pid) <= before.threads + IDLE_THREADS, `${threadsOf(pid)} threads, ${before.threads} before`);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('many images open at the same time are given back when they are closed', async (t) => {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'many', 6);
  for (let i = 0; i < 12; i++) await space.sync('v', space.at('img'), { isForced: true });
  const folder = await mounted(space);
  const pid = serverOf(space);
  const sessions = readdirSync(`${folder}/v`).filter((name) => name !== 'latest');
  t.is(sessions.length, 12);
  const before = descriptorsOf(pid);
  for (let round = 0; round < 3; round++) {
    const files = sessions.map((id) => openSync(`${folder}/v/${id}/image`, 'r'));
    for (const fd of files) for (let band = 0; band < 5; band++) readSync(fd, new Uint8Array(100), 0, 100, (band * 10 + round) * 25_000);
    for (const fd of files) closeSync(fd);
    await until('all is released', () => descriptorsOf(pid) <= before);
  }
  t.true(threadsOf(pid) < 60);
  await space.ok('unmount', folder);
  await nothingLeft(t, space);
});

mountTest(`${MOUNTS} times mount and unmount: each server has as many descriptors as the first, and nothing is left`, async (t) => {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'cycles', 1);
  await space.sync('v', space.at('img'));
  const counts: number[] = [];
  for (let i = 0; i < MOUNTS; i++) {
    const folder = await mounted(space);
    counts.push(descriptorsOf(serverOf(space)));
    await space.ok('unmount', folder);
  }
  await nothingLeft(t, space);
  t.true(Math.max(...counts) - Math.min(...counts) <= 2, `${counts}`);
  t.deepEqual(readdirSync(space.at('state', 'mounts')), []);
});
