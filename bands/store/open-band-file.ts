/** Opening a band file: the one place that says what a missing, linked or cut one means. */
import { closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, ioError, TimebandError } from '../errors.ts';
import type { StoredBand } from '../format/index-page.ts';

const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Opens a band file for reading, if it is a regular file of the length that the index names.
 * @throws TimebandError BAND_MISSING, BAND_CORRUPT, IO_ERROR
 */
export async function openBandFile(file: string, band: Pick<StoredBand, 'fileBytes'>): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(file, FLAGS);
  } catch (error) {
    throw openError(error, file);
  }
  try {
    checkStat(await handle.stat(), file, band);
    return handle;
  } catch (error) {
    await handle.close();
    throw ioError(error, 'read the band file', file);
  }
}

/** The same without waiting, for worker threads: gives `use` the descriptor, and closes it. */
export function withBandFileSync<T>(file: string, band: Pick<StoredBand, 'fileBytes'>, use: (fd: number) => T): T {
  let fd: number;
  try {
    fd = openSync(file, FLAGS);
  } catch (error) {
    throw openError(error, file);
  }
  try {
    checkStat(fstatSync(fd), file, band);
    return use(fd);
  } catch (error) {
    throw ioError(error, 'read the band file', file);
  } finally {
    closeSync(fd);
  }
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
