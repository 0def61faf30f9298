/** The few calls of libc that Node lacks, through koffi where it is installed. It is optional: every caller has another way. */
import { createRequire } from 'node:module';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;
const RLIMIT_CORE = 4;
/** FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE */
const PUNCH_HOLE = 3;

export interface Libc {
  /** Offset of the first data at or after `offset`; undefined if there is none; throws if the file cannot tell. */
  seekData(fd: number, offset: number): number | undefined;
  /** Offset of the first hole at or after `offset`; the end of the file counts as one. */
  seekHole(fd: number, offset: number): number | undefined;
  /** ioctl(2) with a buffer that it reads and fills. @throws Error with the errno's number */
  ioctl(fd: number, request: number, buffer: Uint8Array): void;
  /** Lowers the soft limit of core dumps to `bytes`, for this process and those that it starts. */
  limitCore(bytes: bigint): void;
  /** Gives the blocks of a range back to the file system; it then reads as zeros. @throws Error with the errno's number */
  punchHole(fd: number, offset: number, length: number): void;
}

let loaded: { readonly libc: Libc | undefined } | undefined;

/**
 * Keeps the kernel from writing this process's memory to a disk when it crashes. A limit of 1 byte is too little for any
 * file, and is the one value at which the kernel does not start the program that takes dumps, either (core(5); for such a
 * program, other limits do not count).
 */
export function limitCoreDumps(): void {
  loadLibc()?.limitCore(1n);
}

/** libc, or undefined where koffi is not installed. Loading takes 25 ms, so it waits for the first use. */
export function loadLibc(): Libc | undefined {
  loaded ??= { libc: tryLoad() };
  return loaded.libc;
}

function tryLoad(): Libc | undefined {
  let koffi: typeof import('koffi');
  try {
    koffi = createRequire(import.meta.url)('koffi');
  } catch {
    return undefined; // an optional dependency that is not there
  }
  const library = koffi.load(null);
  const lseek = library.func('int64_t lseek(int fd, int64_t offset, int whence)');
  const ioctl = library.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *buffer)');
  const getrlimit = library.func('int getrlimit(int resource, _Out_ uint64_t *limits)');
  const setrlimit = library.func('int setrlimit(int resource, const uint64_t *limits)');
  const fallocate = library.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  const seek = (fd: number, offset: number, whence: number): number | undefined => {
    const result = Number(lseek(fd, offset, whence));
    if (result >= 0) return result;
    const errno = koffi.errno();
    if (errno === ENXIO) return undefined;
    throw new Error(`lseek: errno ${errno}`);
  };
  return {
    seekData: (fd, offset) => seek(fd, offset, SEEK_DATA),
    seekHole: (fd, offset) => seek(fd, offset, SEEK_HOLE),
    ioctl(fd, request, buffer) {
      if (ioctl(fd, request, buffer) < 0) throw new Error(`ioctl ${request.toString(16)}: errno ${koffi.errno()}`);
    },
    limitCore(bytes) {
      const limits = new BigUint64Array(2); // soft, hard
      if (getrlimit(RLIMIT_CORE, limits) < 0) return;
      limits[0] = bytes;
      setrlimit(RLIMIT_CORE, limits); // fails where the hard limit is lower: then there is nothing to do
    },
    punchHole(fd, offset, length) {
      if (fallocate(fd, PUNCH_HOLE, offset, length) < 0) throw new Error(`fallocate: errno ${koffi.errno()}`);
    },
  };
}
