/** Where the old contents of bands go that are written to while a sync reads the image: a file that is bounded, and gone after the sync. */
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { FILE_MODE, writeFully } from '../../bands/store/files.ts';
import { TRACKED_BAND_BYTES } from './change-tracker.ts';

export const DEFAULT_ASIDE_BYTES = 2_147_483_648;

export class AsideFile {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #limitBytes: number;
  /** Where each band's old content is. */
  readonly #positions = new Map<number, number>();
  #usedBytes = 0;

  private constructor(path: string, handle: FileHandle, limitBytes: number) {
    this.path = path;
    this.#handle = handle;
    this.#limitBytes = limitBytes;
  }

  static async create(folder: string, limitBytes: number): Promise<AsideFile> {
    const file = asidePath(folder);
    try {
      return new AsideFile(file, await open(file, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, FILE_MODE), limitBytes);
    } catch (error) {
      throw ioError(error, 'make the file', file);
    }
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Where a band's old content is; undefined: it is not here. */
  positionOf(band: number): number | undefined {
    return this.#positions.get(band);
  }

  /** Keeps a band's old content. @throws TimebandError NO_SPACE, IO_ERROR */
  async keep(band: number, content: Uint8Array): Promise<void> {
    const position = this.#usedBytes;
    if (position + TRACKED_BAND_BYTES > this.#limitBytes) {
      throw new TimebandError(
        `what was written during the sync exceeds ${this.#limitBytes} bytes of old contents kept aside (attach with a larger --aside-size, or sync when less is written)`,
        { code: 'NO_SPACE', path: this.path },
      );
    }
    this.#usedBytes += TRACKED_BAND_BYTES;
    try {
      await writeFully(this.#handle, content, position);
    } catch (error) {
      throw ioError(error, 'keep old contents aside in', this.path);
    }
    this.#positions.set(band, position);
  }

  async remove(): Promise<void> {
    await this.#handle.close();
    await rm(this.path, { force: true });
  }
}

function asidePath(folder: string): string {
  return path.join(folder, 'aside');
}

/** Removes what a process left that was killed. */
export async function removeLeftAside(folder: string): Promise<void> {
  await rm(asidePath(folder), { force: true });
}
