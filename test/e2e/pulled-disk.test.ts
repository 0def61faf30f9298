/** A repository whose disk disappears under a command: an error that names it, no hang, and nothing that was committed is lost. */
import { closeSync, existsSync, openSync, readdirSync, readSync, rmSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fill } from '../support/bytes.ts';
import { plugDisk, pullDisk } from '../support/disks.ts';
import { mountFileSystem } from '../support/file-systems.ts';
import { isSameFile } from '../support/images.ts';
import { makeFastRepository } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { type Ended, ended, incomingFiles } from '../support/processes.ts';
import { type Workspace, workspace } from '../support/workspace.ts';

const MIB = 1_048_576;
const BANDS = 16;

interface Scene extends Workspace {
  readonly mount: string;
  readonly image: string;
  pull(): void;
  plug(): void;
}

/** Bands of 2 MiB that do not compress. */
function writeImage(image: string, label: string): void {
  const noise = fill(label, 2 * MIB + BANDS);
  writeParts(
    image,
    BANDS * 2 * MIB,
    Array.from({ length: BANDS }, (_, i) => ({ at: i * 2 * MIB, bytes: noise.subarray(i, i + 2 * MIB) })),
  );
}

/** A repository on a disk of its own, with one session of volume `disk`. */
async function scene(t: ExecutionContext): Promise<Scene> {
  const ws = workspace(t);
  const mount = mountFileSystem(ws, { name: 'XFS', make: ['mkfs.xfs', '-q', '-f'], sizeMib: 640 }, 'repo');
  await makeFastRepository(mount);
  const image = ws.at('disk.img');
  writeImage(image, 'first');
  await ws.ok('sync', `disk=${image}`);
  return { ...ws, mount, image, pull: () => pullDisk(mount), plug: () => plugDisk(ws, mount, 'repo.fs') };
}

/** Runs a command, holds it when `isTime`, and lets it go on without the disk. */
async function pulledAt(at: Scene, command: readonly string[], isTime: () => boolean): Promise<Ended> {
  const child = at.start(...command);
  const end = ended(child);
  while (child.exitCode === null && !isTime()) await new Promise(setImmediate);
  child.kill('SIGSTOP');
  at.pull();
  child.kill('SIGCONT');
  return await end;
}

/** All sessions are whole, and the newest is the image. */
async function isWhole(t: ExecutionContext, at: Scene): Promise<void> {
  t.is((await at.cli('check', '--data')).status, 0);
  rmSync(at.at('restored.img'), { force: true });
  await at.ok('restore', 'disk', at.at('restored.img'));
  t.true(isSameFile(at.at('restored.img'), at.image));
}

test.serial('in the middle of a sync: it fails with what it could not write; back again, the disk has all sessions, and syncs go on', async (t) => {
  const at = await scene(t);
  writeImage(at.image, 'second');
  const { status, stderr } = await pulledAt(at, ['sync', 'disk'], () => incomingFiles(at.repo).some((name) => name.includes('/bands/')));
  t.is(status, 1, stderr);
  t.regex(stderr, /timeband: .*cannot .*\/repo.*(EIO|durable)/);
  at.plug();
  t.is(JSON.parse(await at.ok('sessions', 'disk', '--json')).sessions.length, 1);
  await at.ok('sync', 'disk');
  await isWhole(t, at);
  t.deepEqual(incomingFiles(at.repo), []);
});

test.serial('in the middle of a restore: it fails, and leaves no file under the name that was asked for', async (t) => {
  const at = await scene(t);
  at.plug(); // so that nothing is in memory
  const child = at.start('restore', 'disk', at.at('out.img'));
  const end = ended(child);
  while (child.exitCode === null && !readdirSync(at.root).some((name) => name.startsWith('.tmp-') || name.includes('out.img')))
    await new Promise(setImmediate);
  at.pull();
  const { status, stderr } = await end;
  t.is(status, 13, stderr);
  t.false(existsSync(at.at('out.img')));
  t.deepEqual(
    readdirSync(at.root).filter((name) => name.includes('out.img')),
    [],
  );
  for (const command of [['sessions'], ['check'], ['sync', 'disk'], ['delete', 'disk@latest', '--even-newest', '--yes']]) {
    const gone = await at.cli(...command);
    t.true(gone.status === 1 || gone.status === 13, `${command[0]}: ${gone.status} ${gone.stderr}`);
    t.regex(gone.stderr, /repo/, command[0]);
  }
  at.plug();
  await isWhole(t, at);
});

test.serial('under a mount: reading gives EIO and no other bytes, the mount can be taken down', async (t) => {
  const at = await scene(t);
  at.plug();
  const mnt = at.folder('past');
  await at.ok('mount', mnt);
  const fd = openSync(path.join(mnt, 'disk', 'latest', 'image'), 'r');
  t.teardown(() => {
    try {
      closeSync(fd);
    } catch {
      // closed already
    }
  });
  const out = new Uint8Array(4096);
  t.is(readSync(fd, out, 0, 4096, 0), 4096);
  at.pull();
  t.throws(() => readSync(fd, out, 0, 4096, 24 * MIB), { code: 'EIO' });
  t.throws(() => readdirSync(path.join(mnt, 'disk')), { code: 'EIO' });
  closeSync(fd);
  await at.ok('unmount', mnt);
  at.plug();
  await isWhole(t, at);
});
