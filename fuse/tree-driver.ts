/**
 * The FUSE operations of an image tree. Each request is answered exactly once, whatever happens: an answer too many
 * corrupts the next request, a missing one hangs the reader. A read fills its whole buffer (it is not zeroed before).
 *
 * An image is a disk: what is written goes through at once, fsync makes it durable, and its size does not change.
 */
import { createCursor, isWritable, type ReadCursor } from '../bands/store/image.ts';
import { EBADF, EINVAL, ENOENT, ENOSPC, EPERM, EROFS, errnoFor } from './errno.ts';
import type { FuseOperations, FuseStat, FuseStatfs, FuseWriteOperations, Reply } from './fuse-native.ts';
import type { ImageTree, OpenImage, TreeEntry } from './image-tree.ts';
import { ReplyPacer } from './reply-pacer.ts';

const DIRECTORY_MODE = 0o40500;
const FILE_MODE = 0o100400;
const LINK_MODE = 0o120777;
const WRITE_MODE = 0o200;
/** Lets others in when the mount does. */
const OTHERS_MODE = 0o055;
const STATFS_BLOCK_BYTES = 1_048_576; // fuse-native's fields have 32 bits: large blocks keep large volumes right
const READ_BYTES = 131_072;
const ACCESS_MODE_MASK = 3;

export interface DriverOptions {
  readonly allowOther: boolean;
  /** Told of each failed request, for the log. */
  readonly onError: (operation: string, path: string, error: unknown) => void;
}

interface Handle {
  readonly image: OpenImage;
  readonly cursor: ReadCursor;
}

export class TreeDriver {
  readonly #tree: ImageTree;
  readonly #options: DriverOptions;
  readonly #handles = new Map<number, Handle>();
  #pacer: ReplyPacer = new ReplyPacer({ size: 0 });
  readonly #owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  #nextHandle = 1;

  constructor(tree: ImageTree, options: DriverOptions) {
    this.#tree = tree;
    this.#options = options;
  }

  /** Told of the threads that requests come from, before the first one comes. */
  serveThreads(started: { readonly size: number }): void {
    this.#pacer = new ReplyPacer(started);
  }

  /** Files that are open now. */
  get openFiles(): number {
    return this.#handles.size;
  }

  operations(): FuseOperations {
    return {
      readdir: (path, reply) => this.#answer('readdir', path, reply, () => this.#readdir(path)),
      getattr: (path, reply) => this.#answer('getattr', path, reply, () => this.#getattr(path)),
      readlink: (path, reply) => this.#answer('readlink', path, reply, () => this.#readlink(path)),
      open: (path, flags, reply) => this.#answer('open', path, reply, () => this.#open(path, flags)),
      release: (path, fd, reply) => this.#answer('release', path, reply, () => this.#release(fd)),
      read: (path, fd, buffer, length, position, reply) =>
        this.#answer('read', path, reply, () => this.#read(fd, buffer.subarray(0, length), position)),
      statfs: (path, reply) => this.#answer('statfs', path, reply, () => Promise.resolve([0, this.#statfs()])),
      ...(this.#tree.isWritable ? this.#writeOperations() : {}),
    };
  }

  #writeOperations(): FuseWriteOperations {
    const resize = (path: string, sizeBytes: number, reply: Reply): void =>
      this.#answer('truncate', path, reply, () => this.#resize(path, sizeBytes));
    return {
      write: (path, fd, buffer, length, position, reply) =>
        this.#answer('write', path, reply, () => this.#write(fd, buffer.subarray(0, length), position)),
      fsync: (path, _isDataOnly, fd, reply) => this.#answer('fsync', path, reply, () => this.#fsync(fd)),
      truncate: resize,
      ftruncate: (path, _fd, sizeBytes, reply) => resize(path, sizeBytes, reply),
    };
  }

  #answer<T>(operation: string, path: string, reply: Reply<T>, work: () => Promise<number | [number, T]>): void {
    this.#pacer.begin();
    work().then(
      (answer) => this.#pacer.end(() => (typeof answer === 'number' ? reply(answer) : reply(...answer))),
      (error: unknown) => {
        this.#pacer.end(() => reply(errnoFor(error))); // first: whatever becomes of the log, the reader goes on
        this.#tell(operation, path, error);
      },
    );
  }

  #tell(operation: string, path: string, error: unknown): void {
    try {
      this.#options.onError(operation, path, error);
    } catch {
      // a log that cannot be written is no reason to end the mount
    }
  }

  async #readdir(path: string): Promise<number | [number, string[]]> {
    const names = await this.#tree.list(path);
    return names === undefined ? ENOENT : [0, [...names]];
  }

  async #getattr(path: string): Promise<number | [number, FuseStat]> {
    const entry = await this.#tree.look(path);
    return entry === undefined ? ENOENT : [0, this.#stat(entry)];
  }

  #stat(entry: TreeEntry): FuseStat {
    const time = new Date(entry.mtimeMs);
    const size = entry.kind === 'file' ? entry.sizeBytes : entry.kind === 'link' ? Buffer.byteLength(entry.target) : 0;
    const fileMode = this.#tree.isWritable ? FILE_MODE | WRITE_MODE : FILE_MODE;
    const base = entry.kind === 'file' ? fileMode : entry.kind === 'link' ? LINK_MODE : DIRECTORY_MODE;
    const mode = this.#options.allowOther && entry.kind !== 'link' ? base | (entry.kind === 'file' ? OTHERS_MODE & 0o044 : OTHERS_MODE) : base;
    return {
      mtime: time,
      atime: time,
      ctime: time,
      nlink: entry.kind === 'directory' ? 2 : 1,
      size,
      blksize: READ_BYTES,
      blocks: Math.ceil(size / 512),
      mode,
      ...this.#owner,
    };
  }

  async #readlink(path: string): Promise<number | [number, string]> {
    const entry = await this.#tree.look(path);
    if (entry === undefined) return ENOENT;
    return entry.kind === 'link' ? [0, entry.target] : EINVAL;
  }

  async #open(path: string, flags: number): Promise<number | [number, number]> {
    const isForWriting = (flags & ACCESS_MODE_MASK) !== 0;
    if (isForWriting && !this.#tree.isWritable) return EROFS;
    const image = await this.#tree.open(path);
    if (image === undefined) return ENOENT;
    if (isForWriting && !isWritable(image)) {
      await image.release();
      return EROFS;
    }
    const handle = this.#nextHandle;
    this.#nextHandle = (this.#nextHandle % 0x7fff_ffff) + 1;
    this.#handles.set(handle, { image, cursor: createCursor() });
    return [0, handle];
  }

  async #release(fd: number): Promise<number> {
    const handle = this.#handles.get(fd);
    this.#handles.delete(fd);
    await handle?.image.release();
    return 0;
  }

  async #read(fd: number, out: Uint8Array, position: number): Promise<number> {
    const handle = this.#handles.get(fd);
    if (handle === undefined) return EBADF;
    const length = Math.min(out.length, Math.max(0, handle.image.sizeBytes - position));
    if (length > 0) await handle.image.read(out.subarray(0, length), position, handle.cursor);
    return length;
  }

  async #write(fd: number, bytes: Uint8Array, position: number): Promise<number> {
    const image = this.#handles.get(fd)?.image;
    if (image === undefined || !isWritable(image)) return EBADF;
    const length = Math.min(bytes.length, image.sizeBytes - position);
    if (length <= 0) return bytes.length === 0 ? 0 : ENOSPC; // behind the end of a disk
    await image.write(bytes.subarray(0, length), position);
    return length;
  }

  async #fsync(fd: number): Promise<number> {
    const image = this.#handles.get(fd)?.image;
    if (image === undefined) return EBADF;
    if (isWritable(image)) await image.flush();
    return 0;
  }

  /** Also what O_TRUNC asks for: whoever copies a file over a disk image as over a file is refused before anything is lost. */
  async #resize(path: string, sizeBytes: number): Promise<number> {
    const entry = await this.#tree.look(path);
    if (entry === undefined) return ENOENT;
    return entry.kind === 'file' && entry.sizeBytes === sizeBytes ? 0 : EPERM;
  }

  #statfs(): FuseStatfs {
    const blocks = Math.ceil(this.#tree.totalBytes / STATFS_BLOCK_BYTES);
    return {
      bsize: STATFS_BLOCK_BYTES,
      frsize: STATFS_BLOCK_BYTES,
      blocks,
      bfree: 0,
      bavail: 0,
      files: 0,
      ffree: 0,
      favail: 0,
      fsid: 0,
      flag: 0,
      namemax: 255,
    };
  }
}
