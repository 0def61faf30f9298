/** `close` and `open` after something was killed or taken down by hand in between. */
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { attachLoop, detachLoop, loopBackingFile } from '../../../fuse/block-image.ts';
import { currentProcess } from '../../../src/host.ts';
import { MountRegistry } from '../../../src/mount/registry.ts';
import type { Lab } from '../../support/library.ts';
import { sh } from '../../support/workspace.ts';
import {
  errnoFrom,
  kill,
  loopsUnder,
  MAIN,
  mountLab,
  mountsUnder,
  mountTest,
  nothingLeft,
  processesOf,
  runUnder,
  serverOf,
  until,
} from './mount-support.ts';
import { ext4Scene, filesDiffer } from './open-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

interface Opened extends Lab {
  readonly dir: string;
}

async function openedScene(t: ExecutionContext): Promise<Opened> {
  const scene = await ext4Scene(t, pool, ['files']);
  const dir = scene.folder('mnt');
  await scene.ok('open', 'v', dir);
  return { ...scene, dir };
}

/** Kills the server and waits until it is gone. */
async function killServer(scene: Lab): Promise<void> {
  kill(serverOf(scene), 'SIGKILL');
  await until('it is gone', () => processesOf(scene).length === 0);
}

/** Opens, compares the files and closes; nothing is left. */
async function opensAgain(t: ExecutionContext, scene: Opened): Promise<void> {
  await scene.ok('open', 'v', scene.dir);
  t.is(filesDiffer(scene, scene.dir, 'files'), '');
  await scene.ok('close', scene.dir);
  await nothingLeft(t, scene);
}

mountTest('kill -9 of the process under an opened session: close takes down what is left, and open works again', async (t) => {
  const scene = await openedScene(t);
  await killServer(scene);
  t.not(
    errnoFrom(() => readFileSync(`${scene.dir}/deep/er/large`)),
    undefined,
    'nothing can be read any more',
  );
  await scene.ok('close', scene.dir);
  await nothingLeft(t, scene);
  await opensAgain(t, scene);
});

mountTest('kill -9 under an opened session: open at the same folder is refused until it is closed', async (t) => {
  const scene = await openedScene(t);
  await killServer(scene);
  t.is((await scene.json('open', 'v', scene.dir)).error.code, 'MOUNT_BUSY');
  await scene.ok('close', scene.dir);
  await opensAgain(t, scene);
});

mountTest('SIGTERM to the process under an opened session is refused while the loop device reads from it', async (t) => {
  const scene = await openedScene(t);
  kill(serverOf(scene), 'SIGTERM');
  const log = (): string =>
    readdirSync(scene.at('state', 'mounts'))
      .filter((name) => name.endsWith('.log'))
      .map((name) => readFileSync(scene.at('state', 'mounts', name), 'utf8'))
      .join('');
  await until('the log tells of it', () => log().includes('still up'));
  t.is(filesDiffer(scene, scene.dir, 'files'), '');
  await scene.ok('close', scene.dir);
  await nothingLeft(t, scene);
});

mountTest('an opened session whose folder was unmounted by hand closes all the same', async (t) => {
  const scene = await openedScene(t);
  sh('umount', scene.dir);
  await scene.ok('close', scene.dir);
  await nothingLeft(t, scene);
});

mountTest('an opened session whose folder was unmounted by hand can be opened there again at once', async (t) => {
  const scene = await openedScene(t);
  sh('umount', scene.dir);
  await opensAgain(t, scene);
});

mountTest('an opened session that was taken down by hand step by step leaves nothing that hinders the next', async (t) => {
  const scene = await openedScene(t);
  const [loop = ''] = loopsUnder(scene.root);
  sh('umount', scene.dir);
  sh('losetup', '--detach', loop);
  await until('the loop device is free', () => loopsUnder(scene.root).length === 0);
  const [fusePoint = ''] = mountsUnder(scene.root);
  await until('the mount is free', () => errnoFrom(() => sh('umount', fusePoint)) === undefined);
  await opensAgain(t, scene);
});

mountTest('what close remembers from before a restart of the machine never detaches a device that serves another file by now', async (t) => {
  const scene = await mountLab(t, pool);
  writeFileSync(scene.at('other'), new Uint8Array(1_048_576));
  const loop = await attachLoop(scene.at('other'));
  t.teardown(() => detachLoop(loop));
  const directory = scene.folder('mnt');
  const registry = new MountRegistry(scene.at('state'));
  const fusePoint = await registry.makeFusePoint(directory);
  const server = { ...currentProcess(), bootId: 'an earlier one' };
  await registry.put(directory, { server, repository: scene.repo, fusePoint, opened: { loop } });
  await scene.ok('close', directory);
  t.is(await loopBackingFile(loop), scene.at('other'));
  t.deepEqual(readdirSync(scene.at('state', 'mounts')), []);
});

/** Runs an open that is killed with -9 when it comes to that tool. */
async function killedInTool(scene: Lab, tool: string, dir: string): Promise<void> {
  writeFileSync(`${scene.folder('bin')}/${tool}`, '#!/bin/sh\nkill -9 "$PPID"\n', { mode: 0o755 });
  const env = { ...scene.env, PATH: `${scene.at('bin')}:${process.env['PATH']}` };
  await runUnder(scene, [process.execPath, MAIN, 'open', 'v', dir], env);
}

for (const [tool, when] of [
  ['partx', 'after the FUSE mount'],
  ['blkid', 'after the loop device'],
] as const) {
  mountTest(`kill -9 of the command itself ${when}: open works again, and close then leaves nothing`, async (t) => {
    const scene = await ext4Scene(t, pool, ['files']);
    const dir = scene.folder('mnt');
    await killedInTool(scene, tool, dir);
    t.is(mountsUnder(scene.root).length, 1, 'it was killed in the middle');
    await opensAgain(t, { ...scene, dir });
  });
}

mountTest('what an open that was killed left is cleared by a mount at the same folder, too', async (t) => {
  const scene = await ext4Scene(t, pool, ['files']);
  const dir = scene.folder('mnt');
  await killedInTool(scene, 'blkid', dir);
  t.is(loopsUnder(scene.root).length, 1, 'it was killed in the middle');
  await scene.ok('mount', dir);
  t.deepEqual(mountsUnder(scene.root), [dir]);
  t.deepEqual(loopsUnder(scene.root), []);
  t.deepEqual(readdirSync(dir), ['v']);
  await scene.ok('unmount', dir);
  await nothingLeft(t, scene);
  t.is(noted(scene), '');
});

mountTest('kill -9 of the command at any moment: open works again, and close then leaves nothing', async (t) => {
  const scene = await ext4Scene(t, pool, ['files']);
  const dir = scene.folder('mnt');
  for (const delayMs of [0, 30, 100, 180]) {
    const command = scene.start('open', 'v', dir);
    const ended = once(command, 'exit');
    await until('the server is noted', () => noted(scene).includes('"startTicks"') || command.exitCode !== null);
    await sleep(delayMs);
    command.kill('SIGKILL');
    await ended;
    if (mountsUnder(scene.root).includes(dir)) await scene.ok('close', dir); // it was done
    await opensAgain(t, { ...scene, dir });
    t.is(noted(scene), '');
  }
});

mountTest('SIGINT or SIGTERM to the command at any moment: status 130 and nothing is left, or it was done', async (t) => {
  const scene = await ext4Scene(t, pool, ['files']);
  const dir = scene.folder('mnt');
  const statuses: (number | null)[] = [];
  for (const [i, delayMs] of [0, 30, 100, 180, 240].entries()) {
    const command = scene.start('open', 'v', dir);
    const ended = once(command, 'exit');
    await until('the server is noted', () => noted(scene).includes('"startTicks"') || command.exitCode !== null);
    await sleep(delayMs);
    const sent = i % 2 === 0 ? 'SIGINT' : 'SIGTERM';
    command.kill(sent);
    const [status, signal] = await ended;
    statuses.push(status);
    t.true(status === 130 || status === 0 || signal === sent, String(status)); // the signal, if the program was just leaving
    if (status !== 130) await scene.ok('close', dir);
    await nothingLeft(t, scene);
    t.deepEqual(readdirSync(scene.at('state', 'mounts')), []);
  }
  t.is(statuses[0], 130);
});

mountTest('Ctrl-C while a tool runs, which it ends, too: status 130, and the steps are undone', async (t) => {
  const scene = await ext4Scene(t, pool, ['files']);
  writeFileSync(`${scene.folder('bin')}/blkid`, '#!/bin/sh\nkill -INT "$PPID"; sleep 0.2; exit 130\n', { mode: 0o755 });
  const env = { ...scene.env, PATH: `${scene.at('bin')}:${process.env['PATH']}` };
  const { status, stdout } = await runUnder(scene, [process.execPath, MAIN, 'open', 'v', scene.folder('mnt'), '--json'], env);
  t.deepEqual([status, JSON.parse(stdout).error.code], [130, 'INTERRUPTED']);
  await nothingLeft(t, scene);
  t.deepEqual(readdirSync(scene.at('state', 'mounts')), []);
});

mountTest('Ctrl-C to mount before the server is up: status 130 and nothing is left, or it was done', async (t) => {
  const scene = await ext4Scene(t, pool, ['files']);
  const dir = scene.folder('mnt');
  for (const delayMs of [0, 60, 140]) {
    const command = scene.start('mount', dir);
    const ended = once(command, 'exit');
    await until('the server is noted', () => noted(scene).includes('"startTicks"') || command.exitCode !== null);
    await sleep(delayMs);
    command.kill('SIGINT');
    const [status, signal] = await ended;
    t.true(status === 130 || status === 0 || signal === 'SIGINT', String(status)); // the signal, if the program was just leaving
    if (status !== 130) await scene.ok('unmount', dir);
    await nothingLeft(t, scene);
    t.deepEqual(readdirSync(scene.at('state', 'mounts')), []);
  }
});

mountTest('kill -9 of mount at any moment: the mount is there or not, and the next one works', async (t) => {
  const scene = await ext4Scene(t, pool, ['files']);
  const dir = scene.folder('mnt');
  for (const delayMs of [0, 40, 120]) {
    const command = scene.start('mount', dir);
    const ended = once(command, 'exit');
    await until('the server is noted', () => noted(scene).includes('"startTicks"') || command.exitCode !== null);
    await sleep(delayMs);
    command.kill('SIGKILL');
    await ended;
    await until('the server stays with its mount or ends without', () => processesOf(scene).length === mountsUnder(scene.root).length);
    await until(
      'it can be unmounted, or the server takes it down itself since it was not wanted yet',
      async () => mountsUnder(scene.root).length === 0 || (await scene.cli('unmount', dir)).status === 0,
    );
    await until('the server has ended', () => processesOf(scene).length === 0);
    await scene.ok('mount', dir);
    await scene.ok('unmount', dir);
    await nothingLeft(t, scene);
    t.is(noted(scene), '');
  }
});

/** The notes of what is opened. */
function noted(scene: Lab): string {
  if (!existsSync(scene.at('state', 'mounts'))) return '';
  const files = readdirSync(scene.at('state', 'mounts')).filter((name) => /^[0-9a-f]{16}\.json$/.test(name));
  return files.map((name) => readFileSync(scene.at('state', 'mounts', name), 'utf8')).join('');
}
