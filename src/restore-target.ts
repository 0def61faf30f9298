/**
 * What a restore writes to: a new file that gets its name when it is whole, or a file or device that exists and is not
 * in use elsewhere. Nothing is written while one is opened.
 */
import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, link, open, realpath, rename } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError, TimebandError } from '../bands/errors.ts';
import { FILE_MODE, syncDirectory, tryToRemove } from '../bands/store/files.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';
import { loopDeviceOver } from '../fuse/block-image.ts';
import { lockAgainstAll } from './file-lock.ts';
import { deviceNumbers, readDeviceSize } from './sources/block-device.ts';

export interface TargetOptions {
  readonly session: SessionDirectory;
  /** A file or block device. */
  readonly target: string;
}

/** A target among the repository's own files would destroy what is being restored. @throws TimebandError TARGET_INVALID */
export async function refuseOwnRepository({ session, target }: TargetOptions): Promise<void> {
  const folder = path.dirname(path.resolve(target));
  try {
    const root = await realpath(path.resolve(session.directory, '..', '..', '..', '..'));
    const real = await realpath(path.resolve(target)).catch(() => realpath(folder)); // where a link leads
    if (real !== root && !real.startsWith(`${root}${path.sep}`)) return;
  } catch (error) {
    throw ioError(error, 'find the folder of the target', folder);
  }
  throw new TimebandError(`${target} lies within the repository; nothing was written. Name a place outside of it.`, {
    code: 'TARGET_INVALID',
    path: target,
  });
}

export interface Target {
  readonly path: string;
  readonly handle: FileHandle;
  /** A new file reads as zeros where nothing was written. */
  readonly isNew: boolean;
  readonly isDevice: boolean;
  /** What a file or device that exists holds before the restore; 0 for a new file. */
  readonly sizeBytes: number;
  /** What a device has behind the session's end, which is left alone. */
  readonly behindBytes: number;
  /** Cuts a file to the session's size, makes everything durable, and closes it. */
  finish(): Promise<void>;
  abandon(): Promise<void>;
}

/**
 * Opens a file or device for being written over, or makes a new file.
 * @throws TimebandError TARGET_EXISTS, TARGET_INVALID (too small, in use, neither file nor device)
 */
export async function openTarget(options: TargetOptions & { readonly isOverwrite: boolean }): Promise<Target> {
  const target = path.resolve(options.target);
  const facts = await lookAt(target);
  if (facts === undefined) return await openNewTarget(target, options.session.manifest.sizeBytes);
  if (!options.isOverwrite) {
    throw new TimebandError(
      `${target} exists; nothing was written. Name a new file, write over it with --overwrite, or bring it to the session with --in-place.`,
      { code: 'TARGET_EXISTS', path: target },
    );
  }
  return await openExisting(target, facts, options.session.manifest.sizeBytes);
}

/** Opens a file or device that exists. @throws TimebandError TARGET_INVALID (none there, too small, in use, neither file nor device) */
export async function openExistingTarget(options: TargetOptions): Promise<Target> {
  const target = path.resolve(options.target);
  const facts = await lookAt(target);
  if (facts !== undefined) return await openExisting(target, facts, options.session.manifest.sizeBytes);
  throw new TimebandError(`${target} does not exist; nothing was written. Leave --in-place out to restore to a new file.`, {
    code: 'TARGET_INVALID',
    path: target,
  });
}

/** The status of what is there, links followed; undefined if nothing is. */
async function lookAt(target: string): Promise<BigIntStats | undefined> {
  try {
    await using handle = await open(target, constants.O_RDONLY | constants.O_NONBLOCK);
    return await handle.stat({ bigint: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw ioError(error, 'open the target', target);
  }
}

async function openExisting(target: string, facts: BigIntStats, sizeBytes: number): Promise<Target> {
  if (facts.isBlockDevice()) return await openDeviceTarget(target, facts.rdev, sizeBytes);
  if (facts.isFile()) return await openFileTarget(target, facts, sizeBytes);
  throw new TimebandError(`${target} is neither a regular file nor a block device; nothing was written.`, { code: 'TARGET_INVALID', path: target });
}

async function openNewTarget(target: string, sizeBytes: number): Promise<Target> {
  const temporary = `${target}.timeband-${randomBytes(4).toString('hex')}`;
  let handle: FileHandle | undefined;
  try {
    handle = await open(temporary, 'wx+', FILE_MODE);
    await handle.truncate(sizeBytes);
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await tryToRemove(temporary);
    throw ioError(error, 'make the file', temporary);
  }
  return newTarget({ target, temporary, handle });
}

function newTarget({ target, temporary, handle }: { readonly target: string; readonly temporary: string; readonly handle: FileHandle }): Target {
  return {
    path: target,
    handle,
    isNew: true,
    isDevice: false,
    sizeBytes: 0,
    behindBytes: 0,
    async finish() {
      await syncAndClose(handle, temporary);
      await appear(temporary, target);
      await syncDirectory(path.dirname(target));
    },
    async abandon() {
      await handle.close().catch(() => undefined); // closed already if finish() failed after closing
      await tryToRemove(temporary);
    },
  };
}

/** Gives a finished file its name, unless another file has taken it meanwhile. */
async function appear(temporary: string, target: string): Promise<void> {
  try {
    await link(temporary, target);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EEXIST')
      throw new TimebandError(`${target} has appeared meanwhile; it was left alone and nothing was kept. Restore again to another name.`, {
        code: 'TARGET_EXISTS',
        cause: error,
        path: target,
      });
    if (errno !== 'EPERM' && errno !== 'ENOTSUP') throw ioError(error, 'name the restored file', target);
    await rename(temporary, target).catch((cause: unknown) => {
      throw ioError(cause, 'name the restored file', target); // a file system without hardlinks
    });
    return;
  }
  await tryToRemove(temporary); // a second name of a file that is whole
}

async function openFileTarget(target: string, facts: BigIntStats, sizeBytes: number): Promise<Target> {
  await refuseLoopFile(target, facts);
  try {
    const handle = await openUnlocked(target);
    const before = Number(facts.size);
    // Cut last: all of it is written before. One that has its size already keeps its time.
    const cut = async (): Promise<void> => {
      try {
        if ((await handle.stat()).size !== sizeBytes) await handle.truncate(sizeBytes);
      } catch (error) {
        throw ioError(error, 'cut to its size', target);
      }
    };
    return existingTarget(target, handle, { isDevice: false, sizeBytes: before, behindBytes: 0, cut });
  } catch (error) {
    throw ioError(error, 'write over', target);
  }
}

/** A running VM, or what serves a tracked image, holds a lock, and would know nothing of what is written; nobody attaches it while we hold ours. */
async function openUnlocked(target: string): Promise<FileHandle> {
  const handle = await open(target, constants.O_RDWR);
  try {
    // A file system without locks, or a machine without the program, is no reason to restore nothing.
    const outcome = await lockAgainstAll(handle, target).catch(() => 'unknown');
    if (outcome !== 'held') return handle;
    const message = `${target} is in use: another program holds a lock on it (a running VM, or it is attached with "track attach"); nothing was written. End that first.`;
    throw new TimebandError(message, { code: 'TARGET_INVALID', path: target });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** What lies on a loop device is perhaps mounted, and its file system knows nothing of what is written to the file. */
async function refuseLoopFile(target: string, facts: BigIntStats): Promise<void> {
  const loop = await loopDeviceOver(facts);
  if (loop === undefined) return;
  throw new TimebandError(`${target} is in use by the loop device ${loop}; nothing was written. Detach it first (losetup --detach ${loop}).`, {
    code: 'TARGET_INVALID',
    path: target,
  });
}

async function openDeviceTarget(target: string, rdev: bigint, sizeBytes: number): Promise<Target> {
  const deviceBytes = await readDeviceSize(deviceNumbers(rdev), target);
  if (deviceBytes < sizeBytes) {
    throw new TimebandError(`${target} has ${deviceBytes} bytes, the session needs ${sizeBytes}; nothing was written. Name a larger device.`, {
      code: 'TARGET_INVALID',
      path: target,
    });
  }
  try {
    // O_EXCL on a block device: the kernel refuses one that is mounted or otherwise in use.
    const handle = await open(target, constants.O_RDWR | constants.O_EXCL);
    return existingTarget(target, handle, {
      isDevice: true,
      sizeBytes: deviceBytes,
      behindBytes: deviceBytes - sizeBytes,
      cut: () => Promise.resolve(),
    });
  } catch (error) {
    if (errnoOf(error) !== 'EBUSY') throw ioError(error, 'write over', target);
    throw new TimebandError(`${target} is in use (mounted, or held by another device); nothing was written. Unmount it first.`, {
      code: 'TARGET_INVALID',
      cause: error,
      path: target,
    });
  }
}

function existingTarget(
  target: string,
  handle: FileHandle,
  { cut, ...facts }: { readonly isDevice: boolean; readonly sizeBytes: number; readonly behindBytes: number; readonly cut: () => Promise<void> },
): Target {
  return {
    path: target,
    handle,
    isNew: false,
    ...facts,
    async finish() {
      await cut();
      await syncAndClose(handle, target);
    },
    abandon: () => handle.close().catch(() => undefined), // the error that led here is the one to report
  };
}

async function syncAndClose(handle: FileHandle, file: string): Promise<void> {
  try {
    await handle.sync();
    await handle.close();
  } catch (error) {
    throw ioError(error, 'make durable', file);
  }
}
