/** What this user has up in the background: one small file each under the state folder, so that the command that ends it finds it. */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError } from '../bands/errors.ts';
import { utf8 } from '../bands/format/bytes.ts';
import { createDirectories, listDirectory, replaceFile } from '../bands/store/files.ts';
import { NOT_IN_ORDER } from './background/messages.ts';
import { Lock } from './locks.ts';

/** Locks have names with one part more. */
const NOTE_NAME = /^[0-9a-f]{16}\.json$/;

function nameOf(place: string): string {
  return createHash('sha256').update(place).digest('hex').slice(0, 16);
}

/** Notes of services by their place: a mount point, a socket. */
export class ServiceRegistry<Record> {
  readonly directory: string;
  readonly #what: string;

  /** @param what a place is, for messages */
  constructor(directory: string, what: string) {
    this.directory = directory;
    this.#what = what;
  }

  protected base(place: string): string {
    return path.join(this.directory, nameOf(place));
  }

  /** Keeps other commands away from a place while one brings something up or down there. @throws TimebandError LOCKED */
  async lock(place: string, command: string): Promise<Lock> {
    await createDirectories(this.directory);
    return await Lock.acquire(this.directory, { scope: nameOf(place), what: `${this.#what} ${place}`, command: `${command} ${place}` });
  }

  /** Where the server will write what goes wrong. One that still runs after a lazy unmount keeps its own, unseen. */
  async newLogFile(place: string): Promise<string> {
    await createDirectories(this.directory);
    const file = `${this.base(place)}.log`;
    await rm(file, { force: true });
    return file;
  }

  /** What the server wrote there so far. */
  async readLog(place: string): Promise<string> {
    const file = `${this.base(place)}.log`;
    try {
      return await readFile(file, 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return '';
      throw ioError(error, 'read', file);
    }
  }

  /** Why the server that was there could not make everything durable in the end; undefined if it could. */
  async problemAtEnd(place: string): Promise<string | undefined> {
    const log = await this.readLog(place);
    const at = log.indexOf(NOT_IN_ORDER);
    return at === -1 ? undefined : log.slice(at + NOT_IN_ORDER.length).trim();
  }

  async get(place: string): Promise<Record | undefined> {
    return await this.#read(`${this.base(place)}.json`);
  }

  /** All that are noted, whatever is there of them. */
  async list(): Promise<Record[]> {
    const names = (await listDirectory(this.directory)).filter((name) => NOTE_NAME.test(name));
    const records = await Promise.all(names.sort().map((name) => this.#read(path.join(this.directory, name))));
    return records.filter((record) => record !== undefined);
  }

  async #read(file: string): Promise<Record | undefined> {
    try {
      return JSON.parse(await readFile(file, 'utf8'));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw ioError(error, 'read', file);
    }
  }

  async put(place: string, record: Record): Promise<void> {
    await createDirectories(this.directory);
    await replaceFile(`${this.base(place)}.json`, utf8(JSON.stringify(record)));
  }

  /** Forgets it and removes its log. */
  async remove(place: string): Promise<void> {
    for (const suffix of ['.json', '.log']) await rm(`${this.base(place)}${suffix}`, { force: true });
  }
}
