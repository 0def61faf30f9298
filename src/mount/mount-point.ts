/** How a mount point is named, and the image in it. */
import { lstat, realpath } from 'node:fs/promises';
import path from 'node:path';
import { ioError } from '../../bands/errors.ts';

/** What shows a session. */
export const IMAGE_NAME = 'image';

/** The canonical name of a mount point. A folder is not resolved itself: it may be a dead mount; a link never is one. */
export async function mountPointName(directory: string): Promise<string> {
  const absolute = path.resolve(directory);
  if (absolute === '/') return absolute;
  try {
    if (await isLink(absolute)) return await realpath(absolute);
    return path.join(await realpath(path.dirname(absolute)), path.basename(absolute));
  } catch (error) {
    throw ioError(error, 'find', absolute);
  }
}

async function isLink(file: string): Promise<boolean> {
  try {
    return (await lstat(file)).isSymbolicLink();
  } catch {
    return false; // absent, or a dead mount
  }
}
