/** Opening a band file: the one place that says what a missing, linked or cut one means. */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { errnoOf, ioError, TimebandError } from '../errors.ts';
import type { StoredBand } from '../format/index-page.ts';
import { readAt } from './files.ts';

const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Fills `out` with a band file, which must be a regular one of its length. Opening does not wait, and costs a thread less than
 * to be called back would; reading does, so that a thread can work on another band meanwhile.
 * @throws TimebandError BAND_MISSING, BAND_CORRUPT, IO_ERROR
 */
export async function readBandFile(file: string, out: Uint8Array): Promise<void> {
  const fd = openBandFile(file, { fileBytes: out.length });
  try {
    for (let done = 0; done < out.length; ) {
      const got = await readAt(fd, out.subarray(done), done);
      if (got === 0) throw cutShort(file, done);
      done += got;
    }
  } catch (error) {
    throw ioError(error, 'read the band file', file);
  } finally {
    closeSync(fd);
  }
}

/** Opens a band file, and gives `use` what reads parts of it: fills a buffer from a position on, and does not wait. */
export function withBandFile<T>(
  file: string,
  band: Pick<StoredBand, 'fileBytes'>,
  use: (read: (out: Uint8Array, position: number) => Uint8Array) => T,
): T {
  const fd = openBandFile(file, band);
  try {
    return use((out, position) => {
      for (let done = 0; done < out.length; ) {
        const got = readSync(fd, out, done, out.length - done, position + done);
        if (got === 0) throw cutShort(file, position + done);
        done += got;
      }
      return out;
    });
  } catch (error) {
    throw ioError(error, 'read the band file', file);
  } finally {
    closeSync(fd);
  }
}

function openBandFile(file: string, band: Pick<StoredBand, 'fileBytes'>): number {
  let fd: number;
  try {
    fd = openSync(file, FLAGS);
  } catch (error) {
    throw openError(error, file);
  }
  try {
    checkStat(fstatSync(fd), file, band);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw ioError(error, 'read the band file', file);
  }
}

function cutShort(file: string, at: number): TimebandError {
  return new TimebandError(`${file}: ends at byte ${at}, too early`, { code: 'IO_ERROR', path: file });
}

function checkStat(stat: Stats, file: string, band: Pick<StoredBand, 'fileBytes'>): void {
  if (!stat.isFile()) throw new TimebandError(`${file}: the band file is not a regular file`, { code: 'BAND_CORRUPT', path: file });
  if (stat.size !== band.fileBytes)
    throw new TimebandError(`${file}: ${stat.size} bytes long, ${band.fileBytes} expected`, { code: 'BAND_CORRUPT', path: file });
}

function openError(error: unknown, file: string): TimebandError {
  const errno = errnoOf(error);
  if (errno === 'ENOENT') return new TimebandError(`${file}: the band file is missing`, { code: 'BAND_MISSING', cause: error, path: file });
  if (errno === 'ELOOP')
    return new TimebandError(`${file}: the band file is a symbolic link; a repository holds none`, {
      code: 'BAND_CORRUPT',
      cause: error,
      path: file,
    });
  return ioError(error, 'open the band file', file);
}
