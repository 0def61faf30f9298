/** What the kernel is told for each error. A code without an errno does not compile. */
import { constants } from 'node:os';
import { type ErrorCode, errnoOf, TimebandError } from '../bands/errors.ts';

const { errno } = constants;

const ERRNO: Readonly<Record<ErrorCode, number>> = {
  USAGE: errno.EINVAL,
  IO_ERROR: errno.EIO,
  NO_SPACE: errno.ENOSPC,
  PERMISSION_DENIED: errno.EACCES,
  UNSUPPORTED: errno.ENOTSUP,
  TOOL_MISSING: errno.EIO,
  TOOL_FAILED: errno.EIO,
  INTERRUPTED: errno.EINTR,
  REPOSITORY_NOT_FOUND: errno.EIO,
  REPOSITORY_EXISTS: errno.EEXIST,
  REPOSITORY_VERSION: errno.EIO,
  REPOSITORY_CORRUPT: errno.EIO,
  LOCKED: errno.EBUSY,
  PASSPHRASE_MISSING: errno.EACCES,
  WRONG_KEY: errno.EACCES,
  VOLUME_NOT_FOUND: errno.ENOENT,
  VOLUME_EXISTS: errno.EEXIST,
  SESSION_NOT_FOUND: errno.ENOENT,
  RECORD_MISSING: errno.EIO,
  RECORD_CORRUPT: errno.EIO,
  BAND_MISSING: errno.EIO,
  BAND_CORRUPT: errno.EIO,
  ROLLBACK_DETECTED: errno.EIO,
  SOURCE_NOT_FOUND: errno.ENOENT,
  SOURCE_INVALID: errno.EINVAL,
  SOURCE_CHANGED: errno.EIO,
  SOURCE_UNREADABLE: errno.EIO,
  TARGET_EXISTS: errno.EEXIST,
  TARGET_INVALID: errno.EINVAL,
  MOUNT_FAILED: errno.EIO,
  MOUNT_BUSY: errno.EBUSY,
  NOT_MOUNTED: errno.ENOENT,
  FUSE_UNAVAILABLE: errno.EIO,
};

/** The negative errno for anything that was thrown; what nobody foresaw is EIO. */
export function errnoFor(error: unknown): number {
  if (error instanceof TimebandError) return -ERRNO[error.code];
  return errnoOf(error) === 'ENOENT' ? -errno.ENOENT : -errno.EIO;
}

export const ENOENT: number = -errno.ENOENT;
export const EINVAL: number = -errno.EINVAL;
export const EROFS: number = -errno.EROFS;
export const EBADF: number = -errno.EBADF;
export const EPERM: number = -errno.EPERM;
export const ENOSPC: number = -errno.ENOSPC;
