/** Taking down what is there of a mount or an opened session, from its note; it may be all of it or any part. */
import { rmdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import { detachLoop, loopsOver } from '../../fuse/block-image.ts';
import { FUSE_TYPE, isDeadMount, mountsAt, unmountPath } from '../../fuse/mount-table.ts';
import { stateOf } from '../host.ts';
import { mountPointName } from './mount-point.ts';
import type { MountRecord, MountRegistry } from './registry.ts';

const EXIT_WAIT_MS = 60_000;
const BUSY_WAIT_MS = 3_000;
const POLL_MS = 25;

export function isFuseMounted(fusePoint: string): boolean {
  return mountsAt(fusePoint).some((entry) => entry.type === FUSE_TYPE);
}

/**
 * Unmounts a FUSE mount, if it is up, and waits for the process behind it to end. One whose command was killed may still
 * be on its way up: it sees that, and ends by itself.
 */
export async function takeDownFuse(fusePoint: string, record: Pick<MountRecord, 'server'> | undefined): Promise<void> {
  if (isFuseMounted(fusePoint)) await unmountPath(fusePoint, { isLazy: await isDeadMount(fusePoint) });
  const server = record?.server;
  if (server === undefined) return;
  const deadline = performance.now() + EXIT_WAIT_MS;
  while (stateOf(server) === 'running') {
    if (performance.now() > deadline)
      throw new TimebandError(`${fusePoint} is unmounted, but process ${server.pid} that served it still runs.`, {
        code: 'MOUNT_BUSY',
        path: fusePoint,
      });
    await sleep(POLL_MS);
  }
}

/** The same for one that a loop device may have been on: it lets go of its file a moment after it was detached. */
export async function takeDownWhenFree(fusePoint: string, record: Pick<MountRecord, 'server'>): Promise<void> {
  const deadline = performance.now() + BUSY_WAIT_MS;
  for (;;) {
    try {
      return await takeDownFuse(fusePoint, record);
    } catch (error) {
      if (!(error instanceof TimebandError) || error.code !== 'MOUNT_BUSY' || performance.now() > deadline) throw error;
      await sleep(POLL_MS);
    }
  }
}

/** What an `open` left under the same folder that was killed, or whose server was, or that was unmounted by hand. */
export async function clearRemains(registry: MountRegistry, directory: string): Promise<void> {
  const record = await registry.get(directory);
  if (record?.opened !== undefined) await closeRecord(registry, directory, record);
  else if (record !== undefined) await registry.remove(directory); // of a mount that is gone: the folder is the user's
}

/** Takes down what is there of an opened session, however far it got. @returns why what was written over it may be lost; undefined: it is not */
export async function closeRecord(registry: MountRegistry, directory: string, record: MountRecord): Promise<string | undefined> {
  const fusePoint = await mountPointName(record.fusePoint);
  const loops = await loopsOver(fusePoint); // also one that was attached but not noted any more; never one that serves something else by now
  if (mountsAt(directory).some((entry) => loops.includes(entry.source))) await unmountPath(directory);
  for (const loop of await loopsOver(fusePoint)) await detachLoop(loop);
  await takeDownWhenFree(fusePoint, record);
  await removeFusePoint(fusePoint);
  const problem = await registry.problemAtEnd(directory);
  await registry.remove(directory);
  return problem;
}

/** Removes the folder of our own that the image was mounted at. Never recursively: it must be empty by now. */
async function removeFusePoint(fusePoint: string): Promise<void> {
  try {
    await rmdir(fusePoint);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'remove the folder', fusePoint);
  }
}
