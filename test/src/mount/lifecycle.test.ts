import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { sameBytes } from '../../support/bytes.ts';
import { BAND_256K } from '../../support/library.ts';
import { PASSPHRASE, sh } from '../../support/workspace.ts';
import {
  errnoFrom,
  kill,
  mountLab,
  mountsUnder,
  mountTest,
  nothingLeft,
  processesOf,
  readProc,
  serverOf,
  until,
  writeMixed,
} from './mount-support.ts';
import { mountedScene } from './mounted-scene.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

mountTest('unmount while a file is open exits with 1, and the mount stays up and readable; once it is closed unmount works', async (t) => {
  const scene = await mountedScene(t, pool);
  const fd = openSync(scene.image, 'r');
  const { status, stderr } = await scene.cli('unmount', scene.mnt);
  t.is(status, 1);
  t.regex(stderr, /busy/);
  t.deepEqual(mountsUnder(scene.root), [scene.mnt]);
  t.true(scene.isReadable(fd, 4));
  closeSync(fd);
  sameBytes(t, readFileSync(scene.image), scene.bytes);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('unmount returns when the process that served the mount has ended', async (t) => {
  const scene = await mountedScene(t, pool);
  await scene.ok('unmount', scene.mnt);
  t.deepEqual(processesOf(scene), []);
  t.deepEqual(readdirSync(scene.mnt), []);
  const again = await scene.json('unmount', scene.mnt);
  t.is(again.error.code, 'NOT_MOUNTED');
});

mountTest('a mount can be taken down from another folder, by a relative name, and with a slash at the end', async (t) => {
  const scene = await mountedScene(t, pool);
  await scene.ok('unmount', 'mnt/');
  await nothingLeft(t, scene);
});

mountTest('a mount whose note in the state folder is lost can be unmounted all the same', async (t) => {
  const scene = await mountedScene(t, pool);
  rmSync(scene.at('state'), { recursive: true });
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('umount from outside ends the process', async (t) => {
  const scene = await mountedScene(t, pool);
  sh('umount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('a lazy umount from outside lets a reader finish', async (t) => {
  const scene = await mountedScene(t, pool);
  const fd = openSync(scene.image, 'r');
  sh('umount', '-l', scene.mnt);
  for (const band of [0, 5, 10]) t.true(scene.isReadable(fd, band));
  t.is(processesOf(scene).length, 1);
  closeSync(fd);
});

mountTest('after a lazy umount the process ends with the last reader, whether or not it was told that the file was closed', async (t) => {
  const scene = await mountedScene(t, pool);
  t.is(readFileSync(scene.image).length, scene.bytes.length); // the kernel has learnt that it need not ask when a file is closed
  const pid = serverOf(scene);
  const fd = openSync(scene.image, 'r');
  sh('umount', '-l', scene.mnt);
  kill(pid, 'SIGSTOP');
  await until('all its threads stand still', () =>
    readdirSync(`/proc/${pid}/task`).every((thread) => readProc(pid, `task/${thread}/status`).includes('State:\tT')),
  );
  // Now the kernel ends the connection before the process could take its last request.
  closeSync(fd);
  kill(pid, 'SIGCONT');
  await until('the process has ended', () => processesOf(scene).length === 0, 5000);
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  mountTest(`${signal} to the process unmounts and ends it`, async (t) => {
    const scene = await mountedScene(t, pool);
    kill(serverOf(scene), signal);
    await until('the mount is gone', () => mountsUnder(scene.root).length === 0);
    await nothingLeft(t, scene);
    t.deepEqual(readdirSync(scene.mnt), []);
  });
}

mountTest('SIGTERM while a file is open leaves the mount up and says so in the log; later it works', async (t) => {
  const scene = await mountedScene(t, pool);
  const fd = openSync(scene.image, 'r');
  kill(serverOf(scene), 'SIGTERM');
  const logs = (): string =>
    readdirSync(scene.at('state', 'mounts'))
      .filter((name) => name.endsWith('.log'))
      .map((name) => readFileSync(scene.at('state', 'mounts', name), 'utf8'))
      .join('');
  await until('the log tells of it', () => logs().includes('still up'));
  t.true(scene.isReadable(fd, 7));
  closeSync(fd);
  kill(serverOf(scene), 'SIGTERM');
  await until('the mount is gone', () => mountsUnder(scene.root).length === 0);
  await nothingLeft(t, scene);
});

mountTest('a mount in the foreground ends with 0 at SIGINT, at unmount, and at umount from outside', async (t) => {
  const space = await mountLab(t, pool);
  const folder = space.folder('mnt');
  for (const way of ['SIGINT', 'unmount', 'umount']) {
    const server = space.start('mount', '--foreground', folder);
    const exit = once(server, 'exit');
    if (server.stdout !== null) await once(server.stdout, 'data');
    t.deepEqual(mountsUnder(space.root), [folder]);
    if (way === 'SIGINT') server.kill('SIGINT');
    else if (way === 'unmount') await space.ok('unmount', folder);
    else sh('umount', folder);
    t.deepEqual(await exit, [0, null], way);
    await nothingLeft(t, space);
  }
});

mountTest('neither the arguments nor the environment of the server hold the passphrase', async (t) => {
  const scene = await mountedScene(t, pool);
  const pid = serverOf(scene);
  for (const file of ['cmdline', 'environ']) t.false(readProc(pid, file).includes(PASSPHRASE), file);
  t.false(readProc(pid, 'environ').includes('TIMEBAND_PASSPHRASE='));
});

mountTest('the server holds no folder but the repository: the one it was started from can be unmounted', async (t) => {
  const scene = await mountedScene(t, pool);
  t.is(readlinkSync(`/proc/${serverOf(scene)}/cwd`), '/');
});

mountTest('a server in the foreground whose messages nobody reads goes on serving', async (t) => {
  const scene = await mountLab(t, pool);
  writeMixed(scene.at('img'), 'x', 4);
  await scene.sync('v', scene.at('img'));
  const folder = scene.folder('mnt');
  const server = scene.start('mount', '--foreground', folder);
  if (server.stdout !== null) await once(server.stdout, 'data');
  server.stderr?.destroy();
  const { layout } = await scene.repository.volume('v');
  const bands = path.join(layout.sessions, readlinkSync(path.join(folder, 'v', 'latest')), 'bands');
  const fd = openSync(path.join(folder, 'v', 'latest', 'image'), 'r');
  t.teardown(() => closeSync(fd));
  renameSync(bands, `${bands}-moved`);
  t.is(
    errnoFrom(() => readSync(fd, new Uint8Array(10), 0, 10, 0)),
    'EIO',
    'and a message is written',
  );
  renameSync(`${bands}-moved`, bands);
  t.is(readSync(fd, new Uint8Array(10), 0, 10, BAND_256K), 10);
});

mountTest('a server in the foreground whose output is closed before it writes any serves, and ends with 0 at SIGINT', async (t) => {
  const space = await mountLab(t, pool);
  const bytes = writeMixed(space.at('img'), 'x', 2);
  await space.sync('v', space.at('img'));
  const folder = space.folder('mnt');
  const server = space.start('mount', '--foreground', folder);
  server.stdout?.destroy();
  server.stderr?.destroy();
  const exit = once(server, 'exit');
  await until('it is mounted', () => mountsUnder(space.root).length === 1);
  await until('it answers', () => readdirSync(folder).length === 1);
  sameBytes(t, readFileSync(path.join(folder, 'v', 'latest', 'image')), bytes);
  server.kill('SIGINT');
  t.deepEqual(await exit, [0, null]);
  await nothingLeft(t, space);
});

mountTest('Ctrl-C to a mount in the foreground that is in use takes it down once it is not', async (t) => {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'x', 2);
  await space.sync('v', space.at('img'));
  const folder = space.folder('mnt');
  const server = space.start('mount', '--foreground', folder);
  const exit = once(server, 'exit');
  if (server.stdout !== null) await once(server.stdout, 'data');
  const fd = openSync(path.join(folder, 'v', 'latest', 'image'), 'r');
  const warned = server.stderr === null ? undefined : once(server.stderr, 'data');
  server.kill('SIGINT');
  t.regex(String((await warned)?.[0]), /still mounted/);
  t.is(readSync(fd, new Uint8Array(10), 0, 10, BAND_256K), 10);
  closeSync(fd);
  t.deepEqual(await exit, [0, null]);
  await nothingLeft(t, space);
});
