/** The commands `mount`, `unmount`, `open` and `close`, as a program calls them. */
import { lstat, realpath, rmdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, ioError, messageOf, TimebandError } from '../../bands/errors.ts';
import {
  attachLoop,
  detachLoop,
  loopBackingFile,
  mountReadOnly,
  type Partition,
  readFileSystemType,
  readPartitions,
} from '../../fuse/block-image.ts';
import { isDeadMount, mountsAt, unmountPath } from '../../fuse/mount-table.ts';
import { stateOf } from '../host.ts';
import type { Repository } from '../repository.ts';
import { startServer } from './background.ts';
import { type MountRecord, MountRegistry } from './registry.ts';
import { IMAGE_NAME } from './session-tree.ts';

const EXIT_WAIT_MS = 60_000;
const BUSY_WAIT_MS = 5_000;
const POLL_MS = 25;

export interface BackgroundMountOptions {
  readonly stateDirectory: string;
  readonly directory: string;
  readonly allowOther?: boolean;
  readonly cacheBytes?: number | undefined;
}

/** The canonical name of a mount point. A folder is not resolved itself: it may be a dead mount; a link never is one. */
export async function mountPointName(directory: string): Promise<string> {
  const absolute = path.resolve(directory);
  if (absolute === '/') return absolute;
  try {
    if (await isLink(absolute)) return await realpath(absolute);
    return path.join(await realpath(path.dirname(absolute)), path.basename(absolute));
  } catch (error) {
    throw ioError(error, 'find', absolute);
  }
}

async function isLink(file: string): Promise<boolean> {
  try {
    return (await lstat(file)).isSymbolicLink();
  } catch {
    return false; // absent, or a dead mount
  }
}

/** Mounts all volumes and sessions in the background. @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE */
export async function mountRepository(repository: Repository, options: BackgroundMountOptions): Promise<string> {
  const directory = await mountPointName(options.directory);
  const registry = new MountRegistry(options.stateDirectory);
  const request = { mountPoint: directory, allowOther: options.allowOther ?? false, cacheBytes: options.cacheBytes, only: undefined };
  const { server } = await startServer(
    { root: repository.layout.root, masterKey: repository.exportMasterKey(), request },
    await registry.logFile(directory),
  );
  await registry.put(directory, { server, repository: repository.layout.root, fusePoint: directory, opened: undefined });
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
  if (!mountsAt(directory).some((entry) => entry.type === 'fuse.timeband')) {
    await registry.remove(directory);
    throw new TimebandError(`${directory} is not a Timeband mount.`, { code: 'NOT_MOUNTED', path: directory });
  }
  await takeDownFuse(directory, record);
  await registry.remove(directory);
  return directory;
}

/** Unmounts a FUSE mount and waits for the process behind it to end. */
async function takeDownFuse(fusePoint: string, record: MountRecord | undefined): Promise<void> {
  await unmountPath(fusePoint, { isLazy: await isDeadMount(fusePoint) });
  if (record === undefined) return;
  const deadline = performance.now() + EXIT_WAIT_MS;
  while (stateOf(record.server) === 'running') {
    if (performance.now() > deadline)
      throw new TimebandError(`${fusePoint} is unmounted, but process ${record.server.pid} that served it still runs.`, {
        code: 'MOUNT_BUSY',
        path: fusePoint,
      });
    await sleep(POLL_MS);
  }
}

export interface OpenSessionOptions extends BackgroundMountOptions {
  readonly volume: string;
  /** A session's id. */
  readonly session: string;
  readonly partition?: number | undefined;
}

export interface OpenedSession {
  readonly directory: string;
  readonly session: string;
  readonly loop: string;
  readonly fileSystem: string;
}

/** Undoes the steps that were taken, last first; what cannot be undone is said. */
class UndoStack {
  readonly #steps: { readonly what: string; readonly undo: () => Promise<unknown> }[] = [];

  push(what: string, undo: () => Promise<unknown>): void {
    this.#steps.push({ what, undo });
  }

  async run(): Promise<string[]> {
    const left: string[] = [];
    for (const step of this.#steps.reverse()) await step.undo().catch((error: unknown) => left.push(`${step.what} (${messageOf(error)})`));
    return left;
  }
}

/**
 * Opens a session all the way: FUSE image, read-only loop device, file system mounted read-only at `directory`.
 * @throws TimebandError naming the step that failed; the earlier ones are undone
 */
export async function openSession(repository: Repository, options: OpenSessionOptions): Promise<OpenedSession> {
  const directory = await mountPointName(options.directory);
  if (process.getuid?.() !== 0)
    throw new TimebandError(
      'open needs root for the loop device and the mount. Without root, use "timeband mount" and read the image with other tools.',
      { code: 'PERMISSION_DENIED' },
    );
  await checkTarget(directory);
  const undo = new UndoStack();
  let step = 'mount the session with FUSE';
  try {
    const registry = new MountRegistry(options.stateDirectory);
    await clearDeadOpen(registry, directory);
    const fusePoint = await registry.makeFusePoint(directory);
    undo.push(`folder ${fusePoint}`, () => removeFusePoint(fusePoint));
    undo.push('its log', () => registry.remove(directory));
    const only = { volume: options.volume, session: options.session };
    const request = { mountPoint: fusePoint, allowOther: false, cacheBytes: options.cacheBytes, only };
    const { server } = await startServer(
      { root: repository.layout.root, masterKey: repository.exportMasterKey(), request },
      await registry.logFile(directory),
    );
    const record: MountRecord = { server, repository: repository.layout.root, fusePoint, opened: undefined };
    undo.push(`FUSE mount ${fusePoint}`, () => takeDownWhenFree(fusePoint, record));
    const image = path.join(fusePoint, IMAGE_NAME);
    step = 'read the partition table';
    const part = await choosePartition(image, options.partition);
    step = 'attach a loop device';
    const loop = await attachLoop(image, part);
    undo.push(`loop device ${loop}`, () => detachLoop(loop));
    step = 'recognise the file system';
    const fileSystem = await readFileSystemType(loop);
    if (fileSystem === undefined)
      throw new TimebandError('no file system that blkid knows is on it. The image itself can be read through "timeband mount".', {
        code: 'UNSUPPORTED',
      });
    step = `mount its ${fileSystem} file system`;
    await mountReadOnly(loop, fileSystem, directory);
    undo.push(`mount ${directory}`, () => unmountPath(directory));
    step = 'note what was opened';
    await registry.put(directory, { ...record, opened: { loop, directory } });
    return { directory, session: options.session, loop, fileSystem };
  } catch (error) {
    const left = await undo.run();
    const tail = left.length === 0 ? 'The steps before it were undone.' : `Not undone: ${left.join('; ')}.`;
    throw new TimebandError(`cannot open ${options.volume}@${options.session}: failed to ${step}: ${messageOf(error)} ${tail}`, {
      code: error instanceof TimebandError ? error.code : 'IO_ERROR',
      cause: error,
      path: directory,
    });
  }
}

async function checkTarget(directory: string): Promise<void> {
  try {
    if (!(await stat(directory)).isDirectory()) throw new TimebandError(`${directory} is not a folder.`, { code: 'TARGET_INVALID', path: directory });
  } catch (error) {
    throw ioError(error, 'use', directory);
  }
  if (mountsAt(directory).length > 0)
    throw new TimebandError(`something is mounted at ${directory} already; close or unmount it first.`, { code: 'MOUNT_BUSY', path: directory });
}

/** Removes the folder of our own that the image was mounted at. Never recursively: it must be empty by now. */
async function removeFusePoint(fusePoint: string): Promise<void> {
  try {
    await rmdir(fusePoint);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'remove the folder', fusePoint);
  }
}

/** What an `open` whose server was killed left behind under the same folder. */
async function clearDeadOpen(registry: MountRegistry, directory: string): Promise<void> {
  const record = await registry.get(directory);
  if (record?.opened !== undefined) await closeRecord(registry, directory, record);
  else if (record !== undefined) await registry.remove(directory); // of a mount that is gone: the folder is the user's
}

async function choosePartition(image: string, wanted: number | undefined): Promise<Partition | undefined> {
  const partitions = await readPartitions(image);
  const list = partitions.map((one) => `${one.number} (${one.sizeBytes} bytes)`).join(', ');
  if (wanted === undefined) {
    if (partitions.length === 0) return undefined;
    throw new TimebandError(`the image has a partition table; choose one with --partition: ${list}.`, { code: 'USAGE' });
  }
  const found = partitions.find((one) => one.number === wanted);
  if (found !== undefined) return found;
  throw new TimebandError(
    partitions.length === 0 ? 'the image has no partition table; leave --partition out.' : `there is no partition ${wanted}; there are ${list}.`,
    { code: 'USAGE' },
  );
}

/** A loop device lets go of its file a moment after it was detached. */
async function takeDownWhenFree(fusePoint: string, record: MountRecord): Promise<void> {
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

/** Takes an opened session down. @throws TimebandError NOT_MOUNTED, MOUNT_BUSY (and it stays open) */
export async function closeSession(stateDirectory: string, target: string): Promise<string> {
  const directory = await mountPointName(target);
  const registry = new MountRegistry(stateDirectory);
  const record = await registry.get(directory);
  if (record?.opened === undefined)
    throw new TimebandError(`nothing was opened at ${directory} with "timeband open".`, { code: 'NOT_MOUNTED', path: directory });
  await closeRecord(registry, directory, record);
  return directory;
}

async function closeRecord(registry: MountRegistry, directory: string, record: MountRecord): Promise<void> {
  const { fusePoint, opened } = record;
  if (opened !== undefined) {
    if (mountsAt(directory).some((entry) => entry.source === opened.loop)) await unmountPath(directory);
    await detachIfOurs(opened.loop, fusePoint);
  }
  if (mountsAt(fusePoint).length > 0) await takeDownWhenFree(fusePoint, record);
  await removeFusePoint(fusePoint);
  await registry.remove(directory);
}

/** Detaches the loop device unless it is gone or serves something else by now. */
async function detachIfOurs(loop: string, fusePoint: string): Promise<void> {
  const backing = await loopBackingFile(loop);
  if (backing?.startsWith(`${fusePoint}/`) === true) await detachLoop(loop);
}
