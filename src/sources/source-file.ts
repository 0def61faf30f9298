/** A file or device open for reading bands: past the page cache where that is possible, through it elsewhere. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import type { ByteRange } from '../../bands/format/geometry.ts';
import { DIRECT_BLOCK_BYTES, pageAligned } from '../../bands/workers/buffers.ts';
import type { BandInput, SourcePart } from '../../bands/workers/tasks.ts';

const READ_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;

export class SourceFile implements AsyncDisposable {
  readonly path: string;
  readonly handle: FileHandle;
  readonly #direct: FileHandle | undefined;

  private constructor(path: string, handle: FileHandle, direct: FileHandle | undefined) {
    this.path = path;
    this.handle = handle;
    this.#direct = direct;
  }

  /** @throws TimebandError SOURCE_NOT_FOUND, PERMISSION_DENIED, IO_ERROR */
  static async open(path: string): Promise<SourceFile> {
    const handle = await openForReading(path);
    try {
      return new SourceFile(path, handle, await openDirect(handle));
    } catch (error) {
      await handle.close();
      throw ioError(error, 'open the source', path);
    }
  }

  /** The same file with O_DIRECT, where the file system can. */
  get directFd(): number | undefined {
    return this.#direct?.fd;
  }

  /** What a worker reads of `range`, whose position in the file is its offset. @param data as in SourceView.withBand */
  input(range: ByteRange, data: readonly number[] | undefined): BandInput {
    const pairs = data ?? [0, range.length];
    const parts: SourcePart[] = [];
    for (let i = 0; i < pairs.length; i += 2) {
      const start = pairs[i] ?? 0;
      const place = { start, length: pairs[i + 1] ?? 0, position: range.offset + start };
      parts.push({ fd: this.handle.fd, directFd: this.directFd, path: this.path, ...place });
    }
    return { parts };
  }

  async close(): Promise<void> {
    await this.#direct?.close();
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function openForReading(path: string): Promise<FileHandle> {
  try {
    return await open(path, READ_FLAGS);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') throw ioError(error, 'open the source', path);
    throw notFound(path, error);
  }
}

export function notFound(path: string, cause: unknown): TimebandError {
  return new TimebandError(`the source ${path} does not exist. Check the path, or say where it is now: NAME=PATH.`, {
    code: 'SOURCE_NOT_FOUND',
    cause,
    path,
  });
}

/**
 * The same file once more with O_DIRECT: each byte is read once, so to keep it in the page cache would only cost (half
 * of the time, and what others had there). Undefined where the file system cannot.
 */
async function openDirect(handle: FileHandle): Promise<FileHandle | undefined> {
  const stat = await handle.stat();
  if (!stat.isFile() && !stat.isBlockDevice()) return undefined; // a pipe would be drained by the trial
  let direct: FileHandle | undefined;
  try {
    direct = await open(`/proc/self/fd/${handle.fd}`, READ_FLAGS | constants.O_DIRECT);
    await direct.read(pageAligned(DIRECT_BLOCK_BYTES), 0, DIRECT_BLOCK_BYTES, 0);
    return direct;
  } catch {
    await direct?.close(); // EINVAL: not here; any other error is found again, and told, without it
    return undefined;
  }
}
