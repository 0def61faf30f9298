/** The band files of a live bundle that are open: a bounded number, of which none is closed before what was written to it is durable. */
import { close, constants, fdatasync, fstat, open } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { errnoOf, ioError } from '../../bands/errors.ts';
import { FILE_MODE, syncDirectory } from '../../bands/store/files.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import { bandFile, bandsFolder } from '../sources/bundle/bundle-files.ts';

const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat);
const syncData = promisify(fdatasync);

const MAX_OPEN = 128;
/** Journals of file systems take several at once for one. */
const SYNCS_AT_ONCE = 4;
const FLAGS = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface OpenBand {
  readonly fd: number;
  readonly path: string;
  sizeBytes: number;
  isDirty: boolean;
  /** It has no name any more, and is closed by its last user. */
  isRemoved: boolean;
  /** Requests that use it now. */
  users: number;
}

export class OpenBands {
  readonly #bundle: string;
  /** The one that was used last is the last. */
  readonly #open = new Map<number, OpenBand>();
  readonly #closing = new Set<Promise<void>>();
  /** Files were made or removed. */
  #isFolderDirty = false;
  /** How many files were removed so far: one that was opened meanwhile may have lost its name. */
  #removals = 0;
  #flushing: Promise<void> = Promise.resolve();
  /** Why a disk failed to store a band: from then on the system calls its pages clean, and no later flush would prove anything. */
  #failure: unknown;

  constructor(bundle: string) {
    this.#bundle = bundle;
  }

  /** Lends a band's file; undefined if there is none and none is to be made. */
  async use<T>(index: number, isMade: boolean, use: (band: OpenBand) => Promise<T>): Promise<T | undefined> {
    const band = this.#take(index) ?? (await this.#add(index, isMade));
    if (band === undefined) return undefined;
    try {
      return await use(band);
    } finally {
      band.users--;
      if (band.isRemoved && band.users === 0) await closeFile(band.fd);
    }
  }

  #take(index: number): OpenBand | undefined {
    const band = this.#open.get(index);
    if (band === undefined) return undefined;
    this.#open.delete(index);
    this.#open.set(index, band);
    band.users++;
    return band;
  }

  async #add(index: number, isMade: boolean): Promise<OpenBand | undefined> {
    const file = bandFile(this.#bundle, index);
    const removals = this.#removals;
    const fd = await this.#openOrMake(file, isMade);
    if (fd === undefined) return undefined;
    const { size } = await statFile(fd);
    const other = this.#take(index); // opened by somebody else meanwhile
    if (other !== undefined || this.#removals !== removals) {
      await closeFile(fd);
      return other ?? (await this.#add(index, isMade));
    }
    const band = { fd, path: file, sizeBytes: size, isDirty: false, isRemoved: false, users: 1 };
    this.#open.set(index, band);
    if (this.#open.size > MAX_OPEN) this.#closeOldest();
    return band;
  }

  async #openOrMake(file: string, isMade: boolean): Promise<number | undefined> {
    try {
      return await openFile(file, FLAGS);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'open the band', file);
      if (!isMade) return undefined;
    }
    try {
      return await openFile(file, FLAGS | constants.O_CREAT, FILE_MODE);
    } catch (error) {
      throw ioError(error, 'make the band', file);
    } finally {
      this.#isFolderDirty = true; // afterwards: a flush that began before does not cover it
    }
  }

  #closeOldest(): void {
    for (const [index, band] of this.#open) {
      if (band.users > 0) continue;
      this.#open.delete(index);
      const closing: Promise<void> = this.#finish(band).finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
      return;
    }
  }

  async #finish(band: OpenBand): Promise<void> {
    try {
      if (band.isDirty) await syncData(band.fd);
      await closeFile(band.fd);
    } catch (error) {
      this.#failure ??= ioError(error, 'make durable', band.path);
    }
  }

  /** Removes a band's file. Nobody may be writing to it; who reads it goes on. */
  async remove(index: number): Promise<void> {
    const file = bandFile(this.#bundle, index);
    try {
      await unlink(file);
    } catch (error) {
      throw ioError(error, 'remove the band', file);
    } finally {
      this.#isFolderDirty = true; // afterwards, as where one is made
      this.#removals++;
    }
    const band = this.#take(index); // as it is now: a reader may have opened it a moment ago
    if (band === undefined) return;
    this.#open.delete(index);
    band.isRemoved = true;
    band.users--;
    if (band.users === 0) await closeFile(band.fd);
  }

  /** Makes all that was written durable. @throws TimebandError and so does each later one, once a disk has failed to store something */
  async flush(): Promise<void> {
    const flush = this.#flushing.then(() => this.#flush()); // one at a time: what another is about to make durable is not so yet
    this.#flushing = flush.catch(() => undefined);
    await flush;
  }

  async #flush(): Promise<void> {
    const dirty = [...this.#open].filter(([, { isDirty }]) => isDirty);
    await forEachBounded(dirty, SYNCS_AT_ONCE, async ([index, band]) => {
      if (this.#open.get(index) === band) await this.#sync(band); // else it is being closed, or was removed
    });
    await Promise.all(this.#closing);
    if (this.#isFolderDirty) await this.#syncFolder();
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #syncFolder(): Promise<void> {
    this.#isFolderDirty = false;
    try {
      await syncDirectory(bandsFolder(this.#bundle));
    } catch (error) {
      this.#failure ??= error;
    }
  }

  async #sync(band: OpenBand): Promise<void> {
    band.isDirty = false; // what is written from now on is for the next time
    band.users++;
    try {
      await syncData(band.fd);
    } catch (error) {
      this.#failure ??= ioError(error, 'make durable', band.path);
    } finally {
      band.users--;
      if (band.isRemoved && band.users === 0) await closeFile(band.fd);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#closing);
    for (const band of this.#open.values()) await closeFile(band.fd);
    this.#open.clear();
  }
}
