/**
 * The trash: what is in it is deleted, and only its files are still to be removed. Renaming a session's folder into it is
 * the moment at which the session is gone; a process that is killed later leaves files that the next write command removes.
 */
import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, rmdirSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import { createDirectory, listDirectory, removeFileSync, requireRealDirectory, syncDirectory, TEMPORARY_PREFIX } from '../../bands/store/files.ts';

/** Files that are removed before other work of this process gets a turn. */
const UNLINKS_AT_ONCE = 500;
/** Stands for the trash where that cannot take another name: the disk is full. */
const IN_PLACE = `${TEMPORARY_PREFIX}deleted-`;

/**
 * Renames folders into the trash, durably: when this returns they are gone. If one cannot be moved, those before it stay gone:
 * another command may be emptying the trash already. @returns where they are now
 */
export async function moveToTrash(trash: string, directories: readonly string[]): Promise<string[]> {
  await requireRealDirectory(trash);
  await createDirectory(trash, { allowExisting: true });
  const moved: string[] = [];
  for (const directory of directories) {
    try {
      moved.push(await moveOne(trash, directory));
    } catch (error) {
      throw moved.length === 0 ? error : partlyMoved(error, directories.slice(0, moved.length));
    }
  }
  for (const parent of new Set([trash, ...directories.map((directory) => path.dirname(directory))])) await syncDirectory(parent);
  return moved;
}

function partlyMoved(cause: unknown, gone: readonly string[]): TimebandError {
  const { message, code, path: file } = ioError(cause, 'delete', gone[0] ?? '');
  const names = gone.map((directory) => path.basename(directory)).join(', ');
  return new TimebandError(`${message}. Deleted before that: ${names}.`, { code, cause, ...(file === undefined ? {} : { path: file }) });
}

async function moveOne(trash: string, directory: string): Promise<string> {
  const unique = `${path.basename(directory)}-${randomBytes(6).toString('hex')}`;
  const target = path.join(trash, unique);
  try {
    await rename(directory, target);
    return target;
  } catch (error) {
    if (errnoOf(error) !== 'ENOSPC' && errnoOf(error) !== 'EDQUOT') throw ioError(error, 'delete', directory);
  }
  const inPlace = path.join(path.dirname(directory), `${IN_PLACE}${unique}`);
  try {
    await rename(directory, inPlace);
    return inPlace;
  } catch (error) {
    throw ioError(error, 'delete', directory);
  }
}

/** Removes what deletions left, in the trash and in `folders` (of sessions, of volumes). */
export async function emptyTrash(trash: string, folders: readonly string[] = []): Promise<void> {
  for (const name of await listDirectory(trash)) await removeTree(path.join(trash, name));
  for (const folder of folders) {
    for (const name of await listDirectory(folder)) if (name.startsWith(IN_PLACE)) await removeTree(path.join(folder, name));
  }
}

/** Removes a folder and all in it; links are not followed, not even `directory` itself. Somebody else may be removing it, too. */
export async function removeTree(directory: string): Promise<void> {
  try {
    if (!lstatSync(directory).isDirectory()) return removeFileSync(directory); // to list a link would be to list what it leads to
    let count = 0;
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const file = path.join(directory, entry.name);
      if (entry.isDirectory()) await removeTree(file);
      else removeFileSync(file);
      if (++count % UNLINKS_AT_ONCE === 0) await breathe();
    }
    rmdirSync(directory);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'remove', directory);
  }
}
