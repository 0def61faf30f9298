/**
 * Clones of an image file: copies that share its blocks (FICLONE, on XFS and btrfs). They lie in a hidden folder beside
 * the image, so that they are on the same file system:
 *
 *     .timeband/REPOSITORY-VOLUME-COMMIT.img   the reference: the image as the session of that commit has it
 *     .timeband/REPOSITORY-VOLUME-COMMIT.json  which file that is: one that took its name is not it
 *     .timeband/REPOSITORY-VOLUME-now-….img    of a sync that is running, or was killed
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, lstat, open, readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, ioError, messageOf, TimebandError } from '../../../bands/errors.ts';
import { utf8 } from '../../../bands/format/bytes.ts';
import { createDirectory, requireRealDirectory, syncDirectory, writeNewFile } from '../../../bands/store/files.ts';
import type { SessionToken, SourceOwner } from '../source.ts';

const run = promisify(execFile);
export const CLONES_FOLDER = '.timeband';
/** Names of what is not bound yet. */
const FROZEN = 'now-';

export class Clones {
  readonly folder: string;
  readonly #image: string;
  readonly #prefix: string;

  /** @param image the file itself, not a link to it */
  constructor(image: string, { repositoryId, volumeId }: SourceOwner) {
    this.#image = image;
    this.folder = path.join(path.dirname(image), CLONES_FOLDER);
    this.#prefix = `${repositoryId}-${volumeId}-`;
  }

  /** Clones the image as it is at this instant. @throws TimebandError UNSUPPORTED, NO_SPACE, PERMISSION_DENIED, IO_ERROR */
  async freeze(): Promise<string> {
    const clone = this.#temporary('img');
    try {
      await requireRealDirectory(this.folder);
      await createDirectory(this.folder, { allowExisting: true });
      await cloneFile(this.#image, clone);
      return clone;
    } catch (error) {
      await this.discard(clone);
      throw cloneError(error, this.#image);
    }
  }

  /** The reference of a session; undefined if there is none, or if what has its name is another file. */
  async find({ commitId }: SessionToken): Promise<string | undefined> {
    const reference = this.#reference(commitId);
    try {
      const recorded = await readFile(this.#record(commitId), 'utf8');
      return recorded === (await identityOf(reference)) ? reference : undefined;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw ioError(error, 'read', reference);
    }
  }

  /** Makes a frozen clone the reference of a session, durably. */
  async bind(clone: string, { commitId }: SessionToken): Promise<void> {
    const record = this.#temporary('json');
    await using handle = await open(clone);
    await handle.sync();
    await writeNewFile(record, utf8(await identityOf(clone)));
    await rename(record, this.#record(commitId));
    await rename(clone, this.#reference(commitId));
    await syncDirectory(this.folder);
  }

  /** Removes a frozen clone that was not bound. */
  async discard(clone: string): Promise<void> {
    await rm(clone, { force: true });
    await this.#removeEmptyFolder();
  }

  /** Removes every clone of this owner but the reference of `kept`. @returns the references that were removed */
  async clear(kept: SessionToken | undefined): Promise<string[]> {
    const keptName = kept === undefined ? undefined : `${this.#prefix}${kept.commitId}`;
    const removed: string[] = [];
    for (const name of await this.#names()) {
      if (!name.startsWith(this.#prefix) || (keptName !== undefined && name.startsWith(keptName))) continue;
      const file = path.join(this.folder, name);
      await rm(file, { force: true });
      if (name.endsWith('.img')) removed.push(file);
    }
    await this.#removeEmptyFolder();
    return removed;
  }

  /** Removes what killed syncs left. The caller holds the volume's lock. */
  async clearFrozen(): Promise<void> {
    for (const name of await this.#names()) {
      if (name.startsWith(`${this.#prefix}${FROZEN}`)) await rm(path.join(this.folder, name), { force: true });
    }
  }

  async #removeEmptyFolder(): Promise<void> {
    await rmdir(this.folder).catch(() => undefined); // others keep theirs there, or it is not there
  }

  async #names(): Promise<string[]> {
    try {
      return await readdir(this.folder);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
      throw ioError(error, 'list', this.folder);
    }
  }

  #temporary(extension: string): string {
    return path.join(this.folder, `${this.#prefix}${FROZEN}${randomBytes(8).toString('hex')}.${extension}`);
  }

  #reference(commitId: string): string {
    return path.join(this.folder, `${this.#prefix}${commitId}.img`);
  }

  #record(commitId: string): string {
    return path.join(this.folder, `${this.#prefix}${commitId}.json`);
  }
}

/** What no other file shares, and no write leaves as it is. */
async function identityOf(file: string): Promise<string> {
  const { ino, size, mtimeNs, birthtimeNs } = await lstat(file, { bigint: true });
  return `${JSON.stringify({ inode: `${ino}`, size: `${size}`, modified: `${mtimeNs}`, born: `${birthtimeNs}` })}\n`;
}

/** FICLONE. A file without copy-on-write (chattr +C) can only be cloned to one that has the same flag already. */
async function cloneFile(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
  } catch (error) {
    if (errnoOf(error) !== 'EINVAL') throw error;
    await rm(to, { force: true });
    const { mode } = await stat(from);
    await (await open(to, 'wx', mode & 0o777)).close();
    await run('chattr', ['+C', '--', to]);
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
  }
}

function cloneError(error: unknown, image: string): unknown {
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT' || error instanceof TimebandError) return ioError(error, 'clone', image);
  return new TimebandError(`${image} cannot be cloned (${messageOf(error)})`, { code: 'UNSUPPORTED', cause: error, path: image });
}
