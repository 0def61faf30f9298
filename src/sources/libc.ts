/** The few calls of libc that Node lacks, through koffi where it is installed. It is optional: every caller has another way. */
import { createRequire } from 'node:module';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;
/** FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE */
const PUNCH_HOLE = 3;

export interface Libc {
  /** Offset of the first data at or after `offset`; undefined if there is none; throws if the file cannot tell. */
  seekData(fd: number, offset: number): number | undefined;
  /** Offset of the first hole at or after `offset`; the end of the file counts as one. */
  seekHole(fd: number, offset: number): number | undefined;
  /** ioctl(2) with a buffer that it reads and fills. @throws Error with the errno's number */
  ioctl(fd: number, request: number, buffer: Uint8Array): void;
  /** Gives the blocks of a range back to the file system; it then reads as zeros. @throws Error with the errno's number */
  punchHole(fd: number, offset: number, length: number): void;
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
  const ioctl = library.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *buffer)');
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
    punchHole(fd, offset, length) {
      if (fallocate(fd, PUNCH_HOLE, offset, length) < 0) throw new Error(`fallocate: errno ${koffi.errno()}`);
    },
  };
}
