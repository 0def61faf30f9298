/** The commands `open` and `close`, as a program calls them. */
import { stat } from 'node:fs/promises';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { attachLoop, mountFileSystem, type Partition, readFileSystemType, readPartitions } from '../../fuse/block-image.ts';
import { mountsAt } from '../../fuse/mount-table.ts';
import type { OverlayChoice } from '../overlay.ts';
import type { Repository } from '../repository.ts';
import { mountPointName } from './mount-point.ts';
import type { BackgroundMountOptions } from './mounts.ts';
import { MountRegistry } from './registry.ts';
import { SessionMount } from './session-mount.ts';
import { clearRemains, closeRecord } from './take-down.ts';

export interface OpenSessionOptions extends BackgroundMountOptions {
  readonly volume: string;
  /** A session's id. */
  readonly session: string;
  readonly partition?: number | undefined;
  /** Where what is written goes; undefined: the file system is mounted read-only. */
  readonly overlay?: OverlayChoice | undefined;
}

export interface OpenedSession {
  readonly directory: string;
  readonly session: string;
  readonly loop: string;
  readonly fileSystem: string;
}

/**
 * Opens a session all the way: FUSE image, loop device, file system mounted at `directory`; read-only, or over an overlay.
 * @throws TimebandError naming the step that failed or was interrupted; the earlier ones are undone
 */
export async function openSession(repository: Repository, options: OpenSessionOptions): Promise<OpenedSession> {
  const directory = await mountPointName(options.directory);
  if (process.getuid?.() !== 0)
    throw new TimebandError(
      'open needs root for the loop device and the mount. Without root, use "timeband mount" and read the image with other tools.',
      { code: 'PERMISSION_DENIED' },
    );
  const registry = new MountRegistry(options.stateDirectory);
  await using _lock = await registry.lock(directory, 'open');
  await checkTarget(directory);
  await clearRemains(registry, directory);
  const opening = new SessionMount(repository, options, { registry, directory, fusePoint: await registry.makeFusePoint(directory) });
  try {
    return await bringUp(opening, { ...options, directory });
  } catch (error) {
    throw await opening.failed(error, { what: `cannot open ${options.volume}@${options.session}`, toClear: `timeband close ${directory}` });
  }
}

/** The steps of `open`. */
async function bringUp(mount: SessionMount, { directory, session, partition, overlay }: OpenSessionOptions): Promise<OpenedSession> {
  const isWritable = overlay !== undefined;
  const image = await mount.serve();
  mount.begin('read the partition table');
  const part = await choosePartition(image, partition);
  mount.begin('attach a loop device');
  const loop = await attachLoop(image, { part, isWritable });
  await mount.note({ opened: { loop } });
  mount.begin('recognise the file system');
  const fileSystem = await readFileSystemType(loop);
  if (fileSystem === undefined)
    throw new TimebandError('no file system that blkid knows is on it. The image itself can be read through "timeband mount".', {
      code: 'UNSUPPORTED',
    });
  mount.begin(`mount its ${fileSystem} file system`);
  await mountFileSystem({ device: loop, type: fileSystem, directory, isWritable });
  return { directory, session, loop, fileSystem };
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

/** Takes an opened session down. @throws TimebandError NOT_MOUNTED, LOCKED, MOUNT_BUSY (and it stays open), IO_ERROR (what was written may be lost) */
export async function closeSession(stateDirectory: string, target: string): Promise<string> {
  const directory = await mountPointName(target);
  const registry = new MountRegistry(stateDirectory);
  await using _lock = await registry.lock(directory, 'close');
  const record = await registry.get(directory);
  if (record?.opened === undefined)
    throw new TimebandError(`nothing was opened at ${directory} with "timeband open".`, { code: 'NOT_MOUNTED', path: directory });
  const problem = await closeRecord(registry, directory, record);
  if (problem === undefined) return directory;
  throw new TimebandError(`${directory} was closed, but what was written last may not be in its overlay: ${problem}`, {
    code: 'IO_ERROR',
    path: directory,
  });
}
