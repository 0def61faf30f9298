/** Files that are whole or absent: private modes, atomic replacement, durability. The only code that writes small files. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants, lstatSync, read, type Stats, unlinkSync } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, ioError, TimebandError } from '../errors.ts';

export const FILE_MODE = 0o600;
export const DIRECTORY_MODE = 0o700;
/** Names that begin so are unfinished and are never read. */
export const TEMPORARY_PREFIX = '.tmp-';

const run = promisify(execFile);

/** Makes a directory with mode 0700; its parent must exist. With `allowExisting`, one that is there is fine. */
export async function createDirectory(directory: string, options: { readonly allowExisting?: boolean } = {}): Promise<void> {
  try {
    await mkdir(directory, { mode: DIRECTORY_MODE });
  } catch (error) {
    if (options.allowExisting === true && errnoOf(error) === 'EEXIST') return;
    throw ioError(error, 'make the folder', directory);
  }
}

/** Makes a directory and those above it. (Node's own recursive mkdir never returns below /proc.) */
export async function createDirectories(directory: string): Promise<void> {
  try {
    await createDirectory(directory, { allowExisting: true });
  } catch (error) {
    const parent = path.dirname(directory);
    if (!(error instanceof TimebandError) || errnoOf(error.cause) !== 'ENOENT' || parent === directory) throw error;
    await createDirectories(parent);
    await createDirectory(directory, { allowExisting: true });
  }
}

/**
 * Refuses a folder of a repository that is a link or no folder: whoever stores the repository could lead us elsewhere.
 * @throws TimebandError RECORD_CORRUPT
 */
export async function requireRealDirectory(directory: string): Promise<void> {
  const stat = await statIfPresent(directory);
  if (stat === undefined || stat.isDirectory()) return;
  throw new TimebandError(
    `${directory} is ${stat.isSymbolicLink() ? 'a symbolic link' : 'not a folder'}; a repository holds only real folders. Nothing was changed.`,
    {
      code: 'RECORD_CORRUPT',
      path: directory,
    },
  );
}

/**
 * The names in a real folder of a repository that may be absent, as a copying tool leaves empty ones out; none if it is.
 * @throws TimebandError RECORD_CORRUPT, IO_ERROR
 */
export async function listDirectory(directory: string): Promise<string[]> {
  try {
    return await listRequiredDirectory(directory);
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'RECORD_MISSING') return [];
    throw error;
  }
}

/**
 * The names in a real folder without which a repository is not whole: one that was moved away is not an empty one.
 * @throws TimebandError RECORD_MISSING, RECORD_CORRUPT, IO_ERROR
 */
export async function listRequiredDirectory(directory: string): Promise<string[]> {
  await requireRealDirectory(directory);
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'list', directory);
    throw new TimebandError(
      `${directory}: the folder is missing. Was the repository moved, or its disk taken away? If nothing was ever stored in it, make the folder again.`,
      { code: 'RECORD_MISSING', cause: error, path: directory },
    );
  }
}

/** Makes a directory's entries durable. */
export async function syncDirectory(directory: string): Promise<void> {
  try {
    await using handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    await handle.sync();
  } catch (error) {
    throw ioError(error, 'make durable', directory);
  }
}

/** Makes a file that is written durable. */
export async function syncFile(file: string): Promise<void> {
  try {
    await using handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    await handle.sync();
  } catch (error) {
    throw ioError(error, 'make durable', file);
  }
}

/** Makes everything in the file system that holds `directory` durable (syncfs, through coreutils' `sync -f`). */
export async function syncFileSystem(directory: string): Promise<void> {
  try {
    await run('sync', ['-f', '--', directory], { env: { ...process.env, LC_ALL: 'C' } });
  } catch (cause) {
    const isFull = /No space left on device|Disk quota exceeded/.exec(String(cause)); // found only now, where blocks are allocated late
    if (isFull !== null) throw new TimebandError(`cannot make ${directory} durable: ${isFull[0]}`, { code: 'NO_SPACE', cause, path: directory });
    throw new TimebandError(
      `cannot make ${directory} durable: "sync -f" failed (${String(cause)}). Nothing was committed; check the disk and try again.`,
      {
        code: 'IO_ERROR',
        cause,
        path: directory,
      },
    );
  }
}

/** Writes all of `bytes` at `position`; a short write is continued. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Writes a new file (mode 0600) and makes it durable, unless a later syncFileSystem does; fails if it exists. */
export async function writeNewFile(file: string, bytes: Uint8Array, options: { readonly isDurable: boolean } = { isDurable: true }): Promise<void> {
  try {
    await using handle = await open(file, 'wx', FILE_MODE);
    await writeFully(handle, bytes, 0);
    if (options.isDurable) await handle.sync();
  } catch (error) {
    throw ioError(error, 'write', file);
  }
}

/** Puts `bytes` at `file` so that a reader or a crash sees the old file or the new one, whole. */
export async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = path.join(path.dirname(file), `${TEMPORARY_PREFIX}${randomBytes(8).toString('hex')}`);
  try {
    await writeNewFile(temporary, bytes);
    await rename(temporary, file);
  } catch (error) {
    await tryToRemove(temporary);
    throw ioError(error, 'write', file);
  }
  await syncDirectory(path.dirname(file));
}

/** Removes a file, if it is there. */
export async function removeFile(file: string): Promise<void> {
  try {
    await rm(file, { force: true });
  } catch (error) {
    throw ioError(error, 'remove', file);
  }
}

/** The same without waiting, and of a file or link only. */
export function removeFileSync(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'remove', file);
  }
}

/**
 * Clears up a file, or a folder with all in it, after a failure: what went wrong before is what there is to report, and what
 * is left is of no harm. @returns whether it is gone
 */
export async function tryToRemove(file: string): Promise<boolean> {
  return await rm(file, { recursive: true, force: true }).then(
    () => true,
    () => false,
  );
}

/** What `readRegularFile` reports for a file that is not there. */
export interface ReadOptions {
  /** A larger file is corrupt: nothing ever wrote one. */
  readonly maxBytes: number;
  /** What the file is, for messages: "manifest". */
  readonly what: string;
}

/**
 * Reads a whole regular file; never follows a symbolic link, never opens a device or pipe.
 * @throws TimebandError RECORD_MISSING, RECORD_CORRUPT, IO_ERROR
 */
export async function readRegularFile(file: string, { maxBytes, what }: ReadOptions): Promise<Uint8Array> {
  try {
    await using handle = await openRegularFile(file, what);
    const { size } = await handle.stat();
    if (size > maxBytes)
      throw new TimebandError(`${file}: ${what} of ${size} bytes; none is larger than ${maxBytes}`, { code: 'RECORD_CORRUPT', path: file });
    const bytes = new Uint8Array(size);
    await readFully(handle, bytes, 0, file);
    return bytes;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw new TimebandError(`${file}: the ${what} is missing`, { code: 'RECORD_MISSING', cause: error, path: file });
    throw ioError(error, `read the ${what}`, file);
  }
}

/** Opens a regular file for reading without following links or blocking on pipes. */
async function openRegularFile(file: string, what: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) !== 'ELOOP') throw error;
    throw new TimebandError(`${file}: the ${what} is a symbolic link; a repository holds none`, { code: 'RECORD_CORRUPT', cause: error, path: file });
  }
  try {
    if ((await handle.stat()).isFile()) return handle;
    throw new TimebandError(`${file}: the ${what} is not a regular file`, { code: 'RECORD_CORRUPT', path: file });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** fs.read as a promise; a FileHandle cannot be shared between threads, a descriptor can. */
export function readAt(fd: number, out: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, out, 0, out.length, position, (error, bytesRead) => (error === null ? resolve(bytesRead) : reject(error)));
  });
}

/** Fills `out` from `position`. @throws TimebandError IO_ERROR if the file ends before */
export async function readFully(handle: FileHandle, out: Uint8Array, position: number, file: string): Promise<void> {
  for (let done = 0; done < out.length; ) {
    const { bytesRead } = await handle.read(out, done, out.length - done, position + done);
    if (bytesRead === 0)
      throw new TimebandError(`${file}: ends at byte ${position + done}, ${out.length - done} bytes too early`, { code: 'IO_ERROR', path: file });
    done += bytesRead;
  }
}

/** The file's own status (of a link, the link's), or undefined if there is none. */
export async function statIfPresent(file: string): Promise<Stats | undefined> {
  try {
    return await lstat(file);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw ioError(error, 'look at', file);
  }
}

/** The same at once: for band files, of which there are tens of thousands, it takes a quarter of the time. */
export function statIfPresentSync(file: string): BigIntStats | undefined {
  try {
    return lstatSync(file, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') return undefined;
    throw ioError(error, 'look at', file);
  }
}
