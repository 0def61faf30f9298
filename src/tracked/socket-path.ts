/** A socket's address holds 107 bytes and no more; through a descriptor of its folder, every path fits. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ioError } from '../../bands/errors.ts';
import { SOCKET_NAME } from './control-protocol.ts';

/** The socket's path, good as long as `folder` is open. */
export async function socketIn(directory: string): Promise<{ readonly path: string; readonly folder: FileHandle }> {
  try {
    const folder = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    return { path: `/proc/self/fd/${folder.fd}/${SOCKET_NAME}`, folder };
  } catch (error) {
    throw ioError(error, 'open the folder', directory);
  }
}
