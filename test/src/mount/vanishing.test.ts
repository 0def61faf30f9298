import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { isDeadMount } from '../../../fuse/mount-table.ts';
import { sameBytes } from '../../support/bytes.ts';
import { BAND_256K } from '../../support/library.ts';
import { errnoFrom, kill, mountsUnder, mountTest, nothingLeft, serverOf, until, writeMixed } from './mount-support.ts';
import { mountedScene } from './mounted-scene.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

mountTest('kill -9 of the process leaves a dead mount, which the next mount there replaces', async (t) => {
  const scene = await mountedScene(t, pool);
  kill(serverOf(scene), 'SIGKILL');
  await until('the mount is dead', () => isDeadMount(scene.mnt));
  t.is(
    errnoFrom(() => readdirSync(scene.mnt)),
    'ENOTCONN',
  );
  await scene.ok('mount', scene.mnt);
  sameBytes(t, readFileSync(scene.image), scene.bytes);
  t.deepEqual(mountsUnder(scene.root), [scene.mnt]);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('kill -9 while a file is open: the reader gets an error, and the mount can be replaced and taken down', async (t) => {
  const scene = await mountedScene(t, pool);
  const fd = openSync(scene.image, 'r');
  t.teardown(() => errnoFrom(() => closeSync(fd))); // ENOTCONN, and it is closed
  kill(serverOf(scene), 'SIGKILL');
  await until('the mount is dead', () => isDeadMount(scene.mnt));
  t.is(
    errnoFrom(() => readSync(fd, new Uint8Array(10), 0, 10, 9 * BAND_256K)),
    'ENOTCONN',
  );
  await scene.ok('mount', scene.mnt);
  sameBytes(t, readFileSync(scene.image), scene.bytes);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('a dead mount can be unmounted', async (t) => {
  const scene = await mountedScene(t, pool);
  kill(serverOf(scene), 'SIGKILL');
  await until('the mount is dead', () => isDeadMount(scene.mnt));
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('a session that is deleted under a mount is gone from it, and nothing else', async (t) => {
  const scene = await mountedScene(t, pool);
  const [id = ''] = readdirSync(path.dirname(path.dirname(scene.image))).filter((name) => name !== 'latest');
  writeMixed(scene.at('img'), 'newer', 3);
  await scene.sync('v');
  const fd = openSync(path.join(scene.mnt, 'v', id, 'image'), 'r');
  t.true(scene.isReadable(fd, 0));
  const { layout } = await scene.repository.volume('v');
  rmSync(path.join(layout.sessions, id), { recursive: true });
  t.deepEqual(
    readdirSync(path.join(scene.mnt, 'v')).filter((name) => name === id),
    [],
  );
  await until('the kernel asks again', () => errnoFrom(() => lstatSync(path.join(scene.mnt, 'v', id))) === 'ENOENT');
  t.is(
    errnoFrom(() => openSync(path.join(scene.mnt, 'v', id, 'image'), 'r')),
    'ENOENT',
  );
  t.is(
    errnoFrom(() => readSync(fd, new Uint8Array(10), 0, 10, 9 * BAND_256K)),
    'EIO',
    'what is not there is not zeros',
  );
  closeSync(fd);
  t.is(readFileSync(path.join(scene.mnt, 'v', 'latest', 'image')).length, 3 * BAND_256K - 37 * 512);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('a repository that is moved away makes errors for a reader; moved back it can be read again; unmount works meanwhile', async (t) => {
  const scene = await mountedScene(t, pool);
  const fd = openSync(scene.image, 'r');
  renameSync(scene.repo, `${scene.repo}-moved`);
  t.is(
    errnoFrom(() => readSync(fd, new Uint8Array(10), 0, 10, 9 * BAND_256K)),
    'EIO',
  );
  renameSync(`${scene.repo}-moved`, scene.repo);
  t.true(scene.isReadable(fd, 9));
  closeSync(fd);
  renameSync(scene.repo, `${scene.repo}-moved`);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('a repository that is moved away is not shown as an empty one', async (t) => {
  const scene = await mountedScene(t, pool);
  renameSync(scene.repo, `${scene.repo}-moved`);
  await until('the list of volumes is looked at again', () => errnoFrom(() => readdirSync(scene.mnt)) === 'EIO', 5000);
  renameSync(`${scene.repo}-moved`, scene.repo);
  await until('the volumes are back', () => errnoFrom(() => readdirSync(path.join(scene.mnt, 'v'))) === undefined);
  t.deepEqual(readdirSync(scene.mnt), ['v']);
});

mountTest('a volume whose sessions are moved away is not shown as one without any', async (t) => {
  const scene = await mountedScene(t, pool);
  const { sessions } = (await scene.repository.volume('v')).layout;
  const [id = ''] = readdirSync(sessions);
  renameSync(sessions, `${sessions}-moved`);
  for (const name of ['', 'latest', id])
    await until(`${name} is an error`, () => errnoFrom(() => lstatSync(path.join(scene.mnt, 'v', name))) === 'EIO', 10_000);
  t.is(
    errnoFrom(() => readdirSync(path.join(scene.mnt, 'v'))),
    'EIO',
  );
  renameSync(`${sessions}-moved`, sessions);
  sameBytes(t, readFileSync(scene.image), scene.bytes);
});
