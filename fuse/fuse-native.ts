/**
 * fuse-native, loaded with its pitfalls worked around. Main thread only: in a worker thread the addon crashes.
 *
 * The addon needs libfuse.so.2, which the npm packages ship but put on no search path. Loading the library first with
 * RTLD_NODELETE leaves it in the process under that name, so no system package is needed.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { messageOf, TimebandError } from '../bands/errors.ts';

/** Answers a request; exactly once. A negative errno, or 0 (or a count) and the value. */
export type Reply<T = never> = (status: number, value?: T) => void;

export interface FuseStat {
  readonly mtime: Date;
  readonly atime: Date;
  readonly ctime: Date;
  readonly nlink: number;
  readonly size: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface FuseStatfs {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly favail: number;
  readonly fsid: number;
  readonly flag: number;
  readonly namemax: number;
}

/** The operations of a file system, as fuse-native calls them. */
export interface FuseOperations extends Partial<FuseWriteOperations> {
  readdir(path: string, reply: Reply<string[]>): void;
  getattr(path: string, reply: Reply<FuseStat>): void;
  readlink(path: string, reply: Reply<string>): void;
  statfs(path: string, reply: Reply<FuseStatfs>): void;
  open(path: string, flags: number, reply: Reply<number>): void;
  release(path: string, fd: number, reply: Reply): void;
  read(path: string, fd: number, buffer: Uint8Array, length: number, position: number, reply: Reply): void;
}

/** Those that one that is writable has besides. There is none for discards (fallocate): fuse-native does not carry it. */
export interface FuseWriteOperations {
  write(path: string, fd: number, buffer: Uint8Array, length: number, position: number, reply: Reply): void;
  /** The order of the arguments is this, whatever fuse-native's documentation says. */
  fsync(path: string, isDataOnly: number, fd: number, reply: Reply): void;
  truncate(path: string, sizeBytes: number, reply: Reply): void;
  ftruncate(path: string, fd: number, sizeBytes: number, reply: Reply): void;
}

export interface FuseOptions {
  readonly timeout: false;
  readonly fsname: string;
  readonly subtype: string;
  readonly kernelCache: boolean;
  readonly allowOther: boolean;
  /** Whether the kernel checks modes; without it, whoever is let in may do everything. */
  readonly defaultPermissions: boolean;
}

export interface FuseInstance {
  mount(done: (error: Error | null) => void): void;
  unmount(done: (error: Error | null) => void): void;
  _fuseOptions(): string;
  _close: (done: (error: Error | null) => void) => void;
  readonly _thread: Uint8Array;
  /** What is held for each thread that ever made a request; nothing is taken out. */
  readonly _threads: ReadonlySet<unknown>;
}

export type FuseConstructor = new (mountPoint: string, operations: FuseOperations, options: FuseOptions) => FuseInstance;

/** The addon under the wrapper: frees a session that was unmounted already. */
interface FuseBinding {
  fuse_native_unmount(mountPoint: string, thread: Uint8Array): void;
}

const require = createRequire(import.meta.url);
const RTLD_NOW = 0x2;
/** glibc's value. Node closes a library that is no addon; this keeps it loaded all the same. */
const RTLD_NODELETE = 0x1000;

function isLoadError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_DLOPEN_FAILED' && error.message.includes('libfuse.so.2');
}

function preloadLibfuse(): void {
  const shipped = path.join(path.dirname(require.resolve('fuse-shared-library-linux/package.json')), 'libfuse', 'lib', 'libfuse.so');
  try {
    process.dlopen({ exports: {} }, shipped, RTLD_NOW | RTLD_NODELETE);
  } catch (error) {
    if (!messageOf(error).includes('did not self-register')) throw error; // Node's word for: loaded, but no addon
  }
}

/** @throws TimebandError FUSE_UNAVAILABLE */
export function loadFuse(): FuseConstructor {
  try {
    try {
      return require('fuse-native');
    } catch (error) {
      if (!isLoadError(error)) throw error;
      preloadLibfuse();
      return require('fuse-native');
    }
  } catch (cause) {
    throw new TimebandError(
      `fuse-native cannot be loaded (${messageOf(cause)}). Mounts need Linux on x86-64 with glibc; sync, restore and check work without.`,
      {
        code: 'FUSE_UNAVAILABLE',
        cause,
      },
    );
  }
}

/** Frees the addon's handles of a session whose mount is gone; the wrapper's own way would run a shell. */
export function releaseSession(fuse: FuseInstance, mountPoint: string): Promise<void> {
  const binding: FuseBinding = require('node-gyp-build')(path.dirname(require.resolve('fuse-native/package.json')));
  fuse._close = (done) => {
    try {
      binding.fuse_native_unmount(mountPoint, fuse._thread);
      done(null);
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  };
  return new Promise((resolve, reject) => fuse.unmount((error) => (error === null || error === undefined ? resolve() : reject(error))));
}
