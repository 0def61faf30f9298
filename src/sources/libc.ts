/** The few calls of libc that Node lacks, through koffi where it is installed. It is optional: every caller has another way. */
import { createRequire } from 'node:module';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;
const POSIX_FADV_WILLNEED = 3;

export interface Libc {
  /** Offset of the first data at or after `offset`; undefined if there is none; throws if the file cannot tell. */
  seekData(fd: number, offset: number): number | undefined;
  /** Offset of the first hole at or after `offset`; the end of the file counts as one. */
  seekHole(fd: number, offset: number): number | undefined;
  /** Asks the kernel to read a range into its cache, without waiting for it. */
  adviseWillNeed(fd: number, offset: number, length: number): Promise<void>;
}

let loaded: { readonly libc: Libc | undefined } | undefined;

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
  const fadvise = library.func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
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
    adviseWillNeed: (fd, offset, length) =>
      new Promise((resolve) => {
        fadvise.async(fd, offset, length, POSIX_FADV_WILLNEED, () => resolve()); // advice: whether it was taken does not matter
      }),
  };
}
