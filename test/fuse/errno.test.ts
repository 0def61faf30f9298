import { constants } from 'node:os';
import test from 'ava';
import { type ErrorCode, TimebandError } from '../../bands/errors.ts';
import { EBADF, EINVAL, ENOENT, EROFS, errnoFor } from '../../fuse/errno.ts';

/** What a program that reads a mount is to be told. A new code must be put here, or this file does not compile. */
const EXPECTED: Readonly<Record<ErrorCode, keyof typeof constants.errno>> = {
  USAGE: 'EINVAL',
  IO_ERROR: 'EIO',
  NO_SPACE: 'ENOSPC',
  PERMISSION_DENIED: 'EACCES',
  UNSUPPORTED: 'ENOTSUP',
  TOOL_MISSING: 'EIO',
  TOOL_FAILED: 'EIO',
  INTERRUPTED: 'EINTR',
  REPOSITORY_NOT_FOUND: 'EIO',
  REPOSITORY_EXISTS: 'EEXIST',
  REPOSITORY_VERSION: 'EIO',
  REPOSITORY_CORRUPT: 'EIO',
  LOCKED: 'EBUSY',
  PASSPHRASE_MISSING: 'EACCES',
  WRONG_KEY: 'EACCES',
  VOLUME_NOT_FOUND: 'ENOENT',
  VOLUME_EXISTS: 'EEXIST',
  SESSION_NOT_FOUND: 'ENOENT',
  RECORD_MISSING: 'EIO',
  RECORD_CORRUPT: 'EIO',
  BAND_MISSING: 'EIO',
  BAND_CORRUPT: 'EIO',
  ROLLBACK_DETECTED: 'EIO',
  SOURCE_NOT_FOUND: 'ENOENT',
  SOURCE_INVALID: 'EINVAL',
  SOURCE_CHANGED: 'EIO',
  SOURCE_UNREADABLE: 'EIO',
  TARGET_EXISTS: 'EEXIST',
  TARGET_INVALID: 'EINVAL',
  MOUNT_FAILED: 'EIO',
  MOUNT_BUSY: 'EBUSY',
  NOT_MOUNTED: 'ENOENT',
  FUSE_UNAVAILABLE: 'EIO',
};

function isErrorCode(code: string): code is ErrorCode {
  return code in EXPECTED;
}

test('every error code is told to the kernel as its negative errno', (t) => {
  for (const code of Object.keys(EXPECTED).filter(isErrorCode)) {
    t.is(errnoFor(new TimebandError('x', { code })), -constants.errno[EXPECTED[code]], code);
  }
});

test('damage and loss are EIO, never "no such file": a program must not take them for absence', (t) => {
  for (const code of ['BAND_MISSING', 'BAND_CORRUPT', 'RECORD_MISSING', 'RECORD_CORRUPT'] as const) {
    t.is(errnoFor(new TimebandError('x', { code })), -constants.errno.EIO, code);
  }
});

test('a system error ENOENT stays one; any other, and whatever else is thrown, is EIO', (t) => {
  t.is(errnoFor(Object.assign(new Error('x'), { code: 'ENOENT' })), -constants.errno.ENOENT);
  const others: unknown[] = [Object.assign(new Error('x'), { code: 'EMFILE' }), new RangeError('x'), 'text', undefined, null, 0, { code: 5 }, -2];
  for (const thrown of others) t.is(errnoFor(thrown), -constants.errno.EIO, String(thrown));
});

test('the answers that the driver gives by itself have the values of Linux', (t) => {
  t.deepEqual({ ENOENT, EINVAL, EROFS, EBADF }, { ENOENT: -2, EINVAL: -22, EROFS: -30, EBADF: -9 });
});
