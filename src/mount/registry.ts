/** Which mounts this user has up: one small file each under the state folder, so that `unmount` and `close` find what to take down. */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError } from '../../bands/errors.ts';
import { utf8 } from '../../bands/format/bytes.ts';
import { createDirectories, replaceFile } from '../../bands/store/files.ts';
import type { ProcessIdentity } from '../host.ts';
import { Lock } from '../locks.ts';
import { mountPointName } from './mount-point.ts';

export interface MountRecord {
  /** The process that serves the FUSE mount, once it is started. */
  readonly server: ProcessIdentity | undefined;
  readonly repository: string;
  /** Where the FUSE mount is. */
  readonly fusePoint: string;
  /** For `open`: the loop device, once it is attached. */
  readonly opened: { readonly loop: string | undefined } | undefined;
}

function nameOf(directory: string): string {
  return createHash('sha256').update(directory).digest('hex').slice(0, 16);
}

export class MountRegistry {
  readonly #directory: string;

  constructor(stateDirectory: string) {
    this.#directory = path.join(stateDirectory, 'mounts');
  }

  #base(directory: string): string {
    return path.join(this.#directory, nameOf(directory));
  }

  /** Keeps other commands away from a mount point while one brings something up or down there. @throws TimebandError LOCKED */
  async lock(directory: string, command: string): Promise<Lock> {
    await createDirectories(this.#directory);
    return await Lock.acquire(this.#directory, {
      scope: nameOf(directory),
      what: `the mount point ${directory}`,
      command: `${command} ${directory}`,
    });
  }

  /** Where the server of that mount will write what goes wrong. One that still runs after a lazy unmount keeps its own, unseen. */
  async newLogFile(directory: string): Promise<string> {
    await createDirectories(this.#directory);
    const file = `${this.#base(directory)}.log`;
    await rm(file, { force: true });
    return file;
  }

  /** A private folder for the FUSE mount under an `open`, as the mount table will name it. */
  async makeFusePoint(directory: string): Promise<string> {
    const point = `${this.#base(directory)}.fuse`;
    await createDirectories(point);
    return await mountPointName(point);
  }

  async get(directory: string): Promise<MountRecord | undefined> {
    const file = `${this.#base(directory)}.json`;
    try {
      return JSON.parse(await readFile(file, 'utf8'));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw ioError(error, 'read', file);
    }
  }

  async put(directory: string, record: MountRecord): Promise<void> {
    await createDirectories(this.#directory);
    await replaceFile(`${this.#base(directory)}.json`, utf8(JSON.stringify(record)));
  }

  /** Forgets a mount and removes its log. */
  async remove(directory: string): Promise<void> {
    for (const suffix of ['.json', '.log']) await rm(`${this.#base(directory)}${suffix}`, { force: true });
  }
}
