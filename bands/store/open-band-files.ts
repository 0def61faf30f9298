/** Band files that are held open with their header checked: a bounded number, for all readers that share it. */
import type { FileHandle } from 'node:fs/promises';
import type { BandHeader } from '../format/band-file.ts';

const MAX_OPEN_FILES = 24;

export interface BandFile {
  readonly header: BandHeader;
  readonly handle: FileHandle;
}

/** A band file being opened, or open. Counted synchronously, so that none in use is closed. */
class OpenBandFile {
  readonly owner: object;
  readonly #opening: Promise<BandFile>;
  #users = 0;
  #isDropped = false;

  constructor(owner: object, opening: Promise<BandFile>) {
    this.owner = owner;
    this.#opening = opening;
  }

  get isIdle(): boolean {
    return this.#users === 0;
  }

  /** Runs `use` with the file open, whatever is dropped meanwhile. */
  async hold<T>(use: (file: BandFile) => Promise<T>): Promise<T> {
    this.#users++;
    try {
      return await use(await this.#opening);
    } finally {
      this.#users--;
      await this.#closeIfUnused();
    }
  }

  async drop(): Promise<void> {
    this.#isDropped = true;
    await this.#closeIfUnused();
  }

  async #closeIfUnused(): Promise<void> {
    if (!this.#isDropped || this.#users > 0) return;
    const opened = await this.#opening.catch(() => undefined); // one that never opened has nothing to close
    if (this.#users === 0) await opened?.handle.close();
  }
}

export class OpenBandFiles {
  readonly #open = new Map<string, OpenBandFile>();

  /** Runs `use` with `file` open; `open` opens it if it is not. After a failure the next one tries afresh. */
  async hold<T>(owner: object, file: string, { open, use }: { open: () => Promise<BandFile>; use: (file: BandFile) => Promise<T> }): Promise<T> {
    const opened = this.#lookUp(owner, file, open);
    try {
      return await opened.hold(use);
    } catch (error) {
      if (this.#open.get(file) === opened) this.#open.delete(file);
      void opened.drop();
      throw error;
    }
  }

  #lookUp(owner: object, file: string, open: () => Promise<BandFile>): OpenBandFile {
    const known = this.#open.get(file);
    if (known !== undefined) {
      this.#open.delete(file); // to the young end again
      this.#open.set(file, known);
      return known;
    }
    const opened = new OpenBandFile(owner, open());
    this.#open.set(file, opened);
    const oldest = this.#open.keys().next().value;
    if (this.#open.size > MAX_OPEN_FILES && oldest !== undefined) void this.#drop(oldest);
    return opened;
  }

  async #drop(file: string): Promise<void> {
    const opened = this.#open.get(file);
    this.#open.delete(file);
    await opened?.drop();
  }

  /** Closes the files that no read is using, for whatever else needs descriptors. */
  async dropIdle(): Promise<void> {
    await this.#dropWhere((opened) => opened.isIdle);
  }

  /** Closes the files that `owner` had opened. */
  async dropOf(owner: object): Promise<void> {
    await this.#dropWhere((opened) => opened.owner === owner);
  }

  async #dropWhere(isMeant: (opened: OpenBandFile) => boolean): Promise<void> {
    const files = [...this.#open].filter(([, opened]) => isMeant(opened)).map(([file]) => file);
    await Promise.all(files.map((file) => this.#drop(file)));
  }
}
