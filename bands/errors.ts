/**
 * The one error class for data and environment, and the closed list of its codes.
 * A mistake of the calling code is a TypeError or RangeError instead.
 */

/** Every code a TimebandError can carry; exit statuses and errno values are keyed by it. */
export type ErrorCode =
  | 'USAGE'
  | 'IO_ERROR'
  | 'NO_SPACE'
  | 'PERMISSION_DENIED'
  | 'UNSUPPORTED'
  | 'TOOL_MISSING'
  | 'TOOL_FAILED'
  | 'INTERRUPTED'
  | 'REPOSITORY_NOT_FOUND'
  | 'REPOSITORY_EXISTS'
  | 'REPOSITORY_VERSION'
  | 'REPOSITORY_CORRUPT'
  | 'LOCKED'
  | 'PASSPHRASE_MISSING'
  | 'WRONG_KEY'
  | 'VOLUME_NOT_FOUND'
  | 'VOLUME_EXISTS'
  | 'SESSION_NOT_FOUND'
  | 'RECORD_MISSING'
  | 'RECORD_CORRUPT'
  | 'BAND_MISSING'
  | 'BAND_CORRUPT'
  | 'ROLLBACK_DETECTED'
  | 'SOURCE_NOT_FOUND'
  | 'SOURCE_INVALID'
  | 'SOURCE_CHANGED'
  | 'SOURCE_UNREADABLE'
  | 'TARGET_EXISTS'
  | 'TARGET_INVALID'
  | 'MOUNT_FAILED'
  | 'MOUNT_BUSY'
  | 'NOT_MOUNTED'
  | 'FUSE_UNAVAILABLE';

/** What may accompany a TimebandError's message. */
export interface TimebandErrorOptions {
  readonly code: ErrorCode;
  /** The error underneath, never lost. */
  readonly cause?: unknown;
  /** The file, device or mount point concerned. */
  readonly path?: string;
}

/** An error of data or environment. Its message says what happened, to which file, and what to do. */
export class TimebandError extends Error {
  readonly code: ErrorCode;
  readonly path: string | undefined;

  constructor(message: string, options: TimebandErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TimebandError';
    this.code = options.code;
    this.path = options.path;
  }
}

/** The errno name (ENOENT, EIO, …) of a system error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' && /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The error that came first, of one that was thrown on the way out of it (SuppressedError of `using`): that one only follows from it. */
export function firstError(error: unknown): unknown {
  return error instanceof Error && 'suppressed' in error ? firstError(error.suppressed) : error;
}

/** Gives a decoder's error the path of the file that was decoded; other errors pass unchanged. */
export function withPath(error: unknown, path: string): unknown {
  if (!(error instanceof TimebandError) || error.path !== undefined) return error;
  return new TimebandError(`${path}: ${error.message}`, { code: error.code, cause: error, path });
}

/** Turns an error of the operating system into a TimebandError that names the file and the step. */
export function ioError(error: unknown, what: string, path: string): TimebandError {
  if (error instanceof TimebandError) return error;
  const errno = errnoOf(error);
  const advice = IO_ADVICE[errno ?? ''];
  const code: ErrorCode = advice?.code ?? 'IO_ERROR';
  const tail = advice === undefined ? messageOf(error) : `${advice.text} (${errno})`;
  return new TimebandError(`cannot ${what} ${path}: ${tail}`, { code, cause: error, path });
}

/** Whether this process or machine is out of descriptors or memory: that passes, and says nothing of the file it struck. */
export function isShortage(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (SHORTAGES.includes(errnoOf(at) ?? '')) return true;
  return false;
}

const SHORTAGES: readonly string[] = ['EMFILE', 'ENFILE', 'ENOMEM'];

const IO_ADVICE: Readonly<Record<string, { code: ErrorCode; text: string }>> = {
  ENOSPC: { code: 'NO_SPACE', text: 'the disk is full; make room and try again' },
  EDQUOT: { code: 'NO_SPACE', text: 'the disk quota is used up; make room and try again' },
  EACCES: { code: 'PERMISSION_DENIED', text: 'permission denied; check the owner and mode, or run as root' },
  EPERM: { code: 'PERMISSION_DENIED', text: 'not permitted; check the owner and mode, or run as root' },
  EROFS: {
    code: 'PERMISSION_DENIED',
    text: 'the file system is read-only; mount it read-write (Linux makes one read-only when its disk fails: see dmesg) and try again',
  },
  EMFILE: { code: 'IO_ERROR', text: 'too many open files; raise the limit (ulimit -n) and try again' },
  ENFILE: { code: 'IO_ERROR', text: 'this machine has too many open files; end other programs and try again' },
  EIO: { code: 'IO_ERROR', text: 'the disk reports an error; look at it and its cable (dmesg), then try again' },
};
