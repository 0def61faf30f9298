/** The commands `mount` and `unmount`, as a program calls them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { TimebandError } from '../../bands/errors.ts';
import { isDeadMount, mountsAt, unmountPath } from '../../fuse/mount-table.ts';
import { stateOf } from '../host.ts';
import type { Repository } from '../repository.ts';
import { startServer } from './background.ts';
import { mountPointName } from './mount-point.ts';
import { type MountRecord, MountRegistry } from './registry.ts';

const EXIT_WAIT_MS = 60_000;
const BUSY_WAIT_MS = 5_000;
const POLL_MS = 25;

export interface BackgroundMountOptions {
  readonly stateDirectory: string;
  readonly directory: string;
  readonly allowOther?: boolean;
  readonly cacheBytes?: number | undefined;
}

/** Mounts all volumes and sessions in the background. @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE */
export async function mountRepository(repository: Repository, options: BackgroundMountOptions): Promise<string> {
  const directory = await mountPointName(options.directory);
  const registry = new MountRegistry(options.stateDirectory);
  const request = { mountPoint: directory, allowOther: options.allowOther ?? false, cacheBytes: options.cacheBytes, only: undefined };
  const record = { repository: repository.layout.root, fusePoint: directory, opened: undefined };
  await startServer(
    { root: repository.layout.root, masterKey: repository.exportMasterKey(), request },
    { logFile: await registry.logFile(directory), onStarted: (server) => registry.put(directory, { ...record, server }) },
  );
  return directory;
}

/** @throws TimebandError NOT_MOUNTED, MOUNT_BUSY (and it stays up) */
export async function unmountRepository(stateDirectory: string, target: string): Promise<string> {
  const directory = await mountPointName(target);
  const registry = new MountRegistry(stateDirectory);
  const record = await registry.get(directory);
  if (record?.opened !== undefined)
    throw new TimebandError(`${directory} was opened with "timeband open"; take it down with "timeband close ${directory}".`, {
      code: 'MOUNT_BUSY',
      path: directory,
    });
  if (!isFuseMounted(directory)) {
    await registry.remove(directory);
    throw new TimebandError(`${directory} is not a Timeband mount.`, { code: 'NOT_MOUNTED', path: directory });
  }
  await takeDownFuse(directory, record);
  await registry.remove(directory);
  return directory;
}

function isFuseMounted(fusePoint: string): boolean {
  return mountsAt(fusePoint).some((entry) => entry.type === 'fuse.timeband');
}

/**
 * Unmounts a FUSE mount, if it is up, and waits for the process behind it to end. One whose command was killed may still
 * be on its way up: it sees that, and ends by itself.
 */
async function takeDownFuse(fusePoint: string, record: Pick<MountRecord, 'server'> | undefined): Promise<void> {
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

/** The same for one that a loop device was on: it lets go of its file a moment after it was detached. */
export async function takeDownWhenFree(fusePoint: string, record: MountRecord): Promise<void> {
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
