import { once } from 'node:events';
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { isDeadMount } from '../../../fuse/mount-table.ts';
import { isSame, sameBytes } from '../../support/bytes.ts';
import { BAND_256K, type Lab } from '../../support/library.ts';
import { PASSPHRASE, sh } from '../../support/workspace.ts';
import {
  errnoFrom,
  kill,
  mounted,
  mountLab,
  mountsUnder,
  mountTest,
  mountTestFailing,
  nothingLeft,
  processesOf,
  readProc,
  serverOf,
  until,
  writeMixed,
} from './mount-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

interface Scene extends Lab {
  readonly bytes: Uint8Array;
  readonly mnt: string;
  /** The image of the only session, in the mount. */
  readonly image: string;
}

/** A repository with one session, mounted in the background. */
async function setScene(t: ExecutionContext): Promise<Scene> {
  const space = await mountLab(t, pool);
  const bytes = writeMixed(space.at('img'), 'lifecycle', 12);
  await space.sync('v', space.at('img'));
  const mnt = await mounted(space);
  return { ...space, bytes, mnt, image: path.join(mnt, 'v', 'latest', 'image') };
}

/** What is in the file that a test keeps open, from band `band` on, compared with the image. */
function isReadable(scene: Scene, fd: number, band: number): boolean {
  const out = new Uint8Array(10_000);
  const got = readSync(fd, out, 0, out.length, band * BAND_256K + 1000);
  return got === out.length && isSame(out, scene.bytes.subarray(band * BAND_256K + 1000).subarray(0, out.length));
}

mountTest('unmount while a file is open exits with 1, and the mount stays up and readable; once it is closed unmount works', async (t) => {
  const scene = await setScene(t);
  const fd = openSync(scene.image, 'r');
  const { status, stderr } = await scene.cli('unmount', scene.mnt);
  t.is(status, 1);
  t.regex(stderr, /busy/);
  t.deepEqual(mountsUnder(scene.root), [scene.mnt]);
  t.true(isReadable(scene, fd, 4));
  closeSync(fd);
  sameBytes(t, readFileSync(scene.image), scene.bytes);
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('unmount returns when the process that served the mount has ended', async (t) => {
  const scene = await setScene(t);
  await scene.ok('unmount', scene.mnt);
  t.deepEqual(processesOf(scene), []);
  t.deepEqual(readdirSync(scene.mnt), []);
  const again = await scene.json('unmount', scene.mnt);
  t.is(again.error.code, 'NOT_MOUNTED');
});

mountTest('a mount can be taken down from another folder, by a relative name, and with a slash at the end', async (t) => {
  const scene = await setScene(t);
  await scene.ok('unmount', 'mnt/');
  await nothingLeft(t, scene);
});

mountTest('a mount whose note in the state folder is lost can be unmounted all the same', async (t) => {
  const scene = await setScene(t);
  rmSync(scene.at('state'), { recursive: true });
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('umount from outside ends the process', async (t) => {
  const scene = await setScene(t);
  sh('umount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTestFailing('a lazy umount from outside lets a reader finish, and then the process ends', async (t) => {
  const scene = await setScene(t);
  const fd = openSync(scene.image, 'r');
  sh('umount', '-l', scene.mnt);
  for (const band of [0, 5, 10]) t.true(isReadable(scene, fd, band));
  t.is(processesOf(scene).length, 1);
  closeSync(fd);
  await until('the process has ended', () => processesOf(scene).length === 0, 5000);
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  mountTest(`${signal} to the process unmounts and ends it`, async (t) => {
    const scene = await setScene(t);
    kill(serverOf(scene), signal);
    await until('the mount is gone', () => mountsUnder(scene.root).length === 0);
    await nothingLeft(t, scene);
    t.deepEqual(readdirSync(scene.mnt), []);
  });
}

mountTest('SIGTERM while a file is open leaves the mount up and says so in the log; later it works', async (t) => {
  const scene = await setScene(t);
  const fd = openSync(scene.image, 'r');
  kill(serverOf(scene), 'SIGTERM');
  const logs = (): string =>
    readdirSync(scene.at('state', 'mounts'))
      .filter((name) => name.endsWith('.log'))
      .map((name) => readFileSync(scene.at('state', 'mounts', name), 'utf8'))
      .join('');
  await until('the log tells of it', () => logs().includes('still mounted'));
  t.true(isReadable(scene, fd, 7));
  closeSync(fd);
  kill(serverOf(scene), 'SIGTERM');
  await until('the mount is gone', () => mountsUnder(scene.root).length === 0);
  await nothingLeft(t, scene);
});

mountTest('kill -9 of the process leaves a dead mount, which the next mount there replaces', async (t) => {
  const scene = await setScene(t);
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
  const scene = await setScene(t);
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
  const scene = await setScene(t);
  kill(serverOf(scene), 'SIGKILL');
  await until('the mount is dead', () => isDeadMount(scene.mnt));
  await scene.ok('unmount', scene.mnt);
  await nothingLeft(t, scene);
});

mountTest('a session that is deleted under a mount is gone from it, and nothing else', async (t) => {
  const scene = await setScene(t);
  const [id = ''] = readdirSync(path.dirname(path.dirname(scene.image))).filter((name) => name !== 'latest');
  writeMixed(scene.at('img'), 'newer', 3);
  await scene.sync('v');
  const fd = openSync(path.join(scene.mnt, 'v', id, 'image'), 'r');
  t.true(isReadable(scene, fd, 0));
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

mountTest('a repository that is moved away makes errors, not an empty mount; moved back it is there again; unmount works meanwhile', async (t) => {
  const scene = await setScene(t);
  const fd = openSync(scene.image, 'r');
  renameSync(scene.repo, `${scene.repo}-moved`);
  t.is(
    errnoFrom(() => readSync(fd, new Uint8Array(10), 0, 10, 9 * BAND_256K)),
    'EIO',
  );
  await until('the list of volumes is looked at again', () => errnoFrom(() => readdirSync(scene.mnt)) === 'EIO');
  renameSync(`${scene.repo}-moved`, scene.repo);
  await until('the volumes are back', () => errnoFrom(() => readdirSync(scene.mnt)) === undefined);
  t.true(isReadable(scene, fd, 9));
  closeSync(fd);
  renameSync(scene.repo, `${scene.repo}-moved`);
  await scene.ok('unmount', scene.mnt);
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
  const scene = await setScene(t);
  const pid = serverOf(scene);
  for (const file of ['cmdline', 'environ']) t.false(readProc(pid, file).includes(PASSPHRASE), file);
  t.false(readProc(pid, 'environ').includes('TIMEBAND_PASSPHRASE='));
});

mountTestFailing('the server holds no folder but the repository: the one it was started from can be unmounted', async (t) => {
  const scene = await setScene(t);
  t.is(readlinkSync(`/proc/${serverOf(scene)}/cwd`), '/');
});

mountTestFailing('a server in the foreground whose messages nobody reads goes on serving', async (t) => {
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
