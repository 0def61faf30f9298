/** How a new session takes over a file from the one before. */
import { closeSync, constants, fstatSync, linkSync, openSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { errnoOf, ioError, TimebandError } from '../errors.ts';
import { FILE_MODE } from './files.ts';

/** How a file came to be in the new session; `missing`: there is no such file to link. */
export type LinkOutcome = 'linked' | 'copied' | 'missing';

/** Links `from` to `to`; where no more links to a file are possible, copies it with its times. */
export function linkOrCopy(from: string, to: string): LinkOutcome {
  try {
    linkSync(from, to);
    return 'linked';
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') return 'missing';
    if (errno !== 'EMLINK') throw ioError(error, 'link', to);
  }
  return copyWithTimes(from, to);
}

/** Copies a regular file; a link in its place would carry a local file, in clear, into the repository. */
function copyWithTimes(from: string, to: string): LinkOutcome {
  try {
    const source = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(source);
      if (!stat.isFile()) throw new TimebandError(`${from}: not a regular file`, { code: 'BAND_CORRUPT', path: from });
      writeFileSync(to, readFileSync(source), { mode: FILE_MODE, flag: 'wx' });
      utimesSync(to, stat.mtimeMs / 1000, stat.mtimeMs / 1000);
      return 'copied';
    } finally {
      closeSync(source);
    }
  } catch (error) {
    throw ioError(error, 'copy a band file to', to);
  }
}
