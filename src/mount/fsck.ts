/** `check --fsck`: a session's image on read-only loop devices, and on each the file system's own checker. Nothing is mounted from it. */
import { TimebandError } from '../../bands/errors.ts';
import { attachLoop, detachLoop, type Partition, readFileSystemType, readPartitions } from '../../fuse/block-image.ts';
import { checkFileSystem, type FileSystemCheck } from '../../fuse/file-system-check.ts';
import type { Repository } from '../repository.ts';
import { MountRegistry } from './registry.ts';
import { SessionMount, type SessionMountOptions } from './session-mount.ts';
import { clearRemains } from './take-down.ts';

export interface FsckOptions extends SessionMountOptions {
  readonly stateDirectory: string;
}

/** What was found of one file system of a session. */
export interface CheckedFileSystem extends FileSystemCheck {
  readonly volume: string;
  readonly session: string;
  /** Undefined: the image has no partition table. */
  readonly partition: number | undefined;
  /** As blkid names it; undefined: it knows none. */
  readonly fileSystem: string | undefined;
}

/** @throws TimebandError PERMISSION_DENIED */
export function requireRootForFsck(): void {
  if (process.getuid?.() === 0) return;
  throw new TimebandError(
    'check --fsck needs root for the loop devices. Without root, use "timeband mount", and run the checker on the image, as in "e2fsck -fn DIR/NAME/latest/image".',
    { code: 'PERMISSION_DENIED' },
  );
}

/**
 * Checks the file systems of one session: of each partition, or of the image as a whole.
 * @throws TimebandError PERMISSION_DENIED, INTERRUPTED, or naming the step that failed; everything is taken down then
 */
export async function checkFileSystems(repository: Repository, options: FsckOptions): Promise<CheckedFileSystem[]> {
  requireRootForFsck();
  const { volume, session, stateDirectory } = options;
  const registry = new MountRegistry(stateDirectory);
  const name = `of check --fsck ${volume}@${session} of ${repository.layout.root}`; // no folder: what a killed run left is found under it
  await using _lock = await registry.lock(name, 'check --fsck');
  await clearRemains(registry, name);
  const mount = new SessionMount(repository, options, { registry, directory: name, fusePoint: await registry.makeFusePoint(name) });
  try {
    const found = await checkAll(mount, options);
    mount.begin('take it down');
    await mount.takeDown();
    return found;
  } catch (error) {
    const what = `cannot check the file systems of ${volume}@${session}`;
    throw await mount.failed(error, { what, toClear: `timeband check --fsck ${volume}@${session}` });
  }
}

async function checkAll(mount: SessionMount, { volume, session, signal }: FsckOptions): Promise<CheckedFileSystem[]> {
  const image = await mount.serve();
  mount.begin('read the partition table');
  const partitions = await readPartitions(image);
  const found: CheckedFileSystem[] = [];
  for (const part of partitions.length === 0 ? [undefined] : partitions) {
    const checked = await checkPart(mount, { image, part, signal });
    found.push({ volume, session, partition: part?.number, ...checked });
  }
  return found;
}

async function checkPart(
  mount: SessionMount,
  { image, part, signal }: { readonly image: string; readonly part: Partition | undefined; readonly signal: AbortSignal | undefined },
): Promise<FileSystemCheck & Pick<CheckedFileSystem, 'fileSystem'>> {
  mount.begin('attach a loop device');
  const loop = await attachLoop(image, { part });
  await mount.note({ opened: { loop } });
  mount.begin('recognise the file system');
  const fileSystem = await readFileSystemType(loop);
  mount.begin(`check its ${fileSystem ?? 'unknown'} file system`);
  const checked = await checkFileSystem(loop, { type: fileSystem, partitionType: part?.type, signal });
  await detachLoop(loop);
  return { fileSystem, ...checked };
}
