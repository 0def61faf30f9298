/** Ranges of a sparse bundle's volume as parts of its band files, which are open only while a worker reads them. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, ioError, TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, bandRanges } from '../../../bands/format/geometry.ts';
import { DIRECT_BLOCK_BYTES } from '../../../bands/workers/buffers.ts';
import type { BandInput, SourcePart } from '../../../bands/workers/tasks.ts';
import { bandFile } from './bundle-files.ts';

/** Descriptors that all workers together may hold; one range of 64 MiB over bands of 1 MiB needs 65. */
const MAX_DESCRIPTORS = 192;
const READ_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
/** Above so many files for one range, what reading past the page cache saves is lost in opening them twice. */
const MAX_DIRECT_FILES = 4;

/** A part of a band file that holds data, before it is opened. */
interface Piece {
  readonly index: number;
  readonly position: number;
  readonly start: number;
  readonly length: number;
}

export class BandReader {
  readonly #bundle: string;
  readonly #bandBytes: number;
  /** Length of each band file. */
  readonly #sizes: ReadonlyMap<number, number>;
  readonly #descriptors = new Slots(MAX_DESCRIPTORS);
  #canBypassCache = true;

  constructor(bundle: string, bandBytes: number, sizes: ReadonlyMap<number, number>) {
    this.#bundle = bundle;
    this.#bandBytes = bandBytes;
    this.#sizes = sizes;
  }

  /** Lends the parts of `range`: see SourceView.withBand. @throws TimebandError SOURCE_CHANGED, PERMISSION_DENIED, IO_ERROR */
  async withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    const pieces = this.#piecesOf(range, data ?? [0, range.length]);
    const indexes = [...new Set(pieces.map(({ index }) => index))];
    const isDirect = this.#canBypassCache && indexes.length <= MAX_DIRECT_FILES;
    return await this.#descriptors.use(indexes.length * (isDirect ? 2 : 1), async () => {
      const files = new Map<number, OpenBand>();
      try {
        for (const index of indexes) files.set(index, await this.#open(index, isDirect));
        return await use({ parts: pieces.flatMap((piece) => partOf(piece, files.get(piece.index))) });
      } finally {
        for (const file of files.values()) await file.close();
      }
    });
  }

  #piecesOf({ offset }: ByteRange, pairs: readonly number[]): Piece[] {
    const pieces: Piece[] = [];
    for (let i = 0; i < pairs.length; i += 2) {
      const start = pairs[i] ?? 0;
      for (const part of bandRanges(offset + start, pairs[i + 1] ?? 0, this.#bandBytes)) {
        const length = Math.min(part.length, (this.#sizes.get(part.bandIndex) ?? 0) - part.start); // behind the file's end are zeros
        if (length > 0) pieces.push({ index: part.bandIndex, position: part.start, start: start + part.position, length });
      }
    }
    return pieces;
  }

  async #open(index: number, isDirect: boolean): Promise<OpenBand> {
    const file = bandFile(this.#bundle, index);
    let handle: FileHandle;
    try {
      handle = await open(file, READ_FLAGS);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'open the band', file);
      throw new TimebandError(`${file} was deleted while the bundle was read. No session was made; run sync again when the bundle is at rest.`, {
        code: 'SOURCE_CHANGED',
        cause: error,
        path: file,
      });
    }
    return new OpenBand(file, handle, isDirect ? await this.#openDirect(handle) : undefined);
  }

  /** The same file with O_DIRECT; a worker goes on through the page cache where it fails. */
  async #openDirect(handle: FileHandle): Promise<FileHandle | undefined> {
    try {
      return await open(`/proc/self/fd/${handle.fd}`, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_DIRECT);
    } catch {
      this.#canBypassCache = false; // not on this file system
      return undefined;
    }
  }
}

class OpenBand {
  readonly file: string;
  readonly handle: FileHandle;
  readonly direct: FileHandle | undefined;

  constructor(file: string, handle: FileHandle, direct: FileHandle | undefined) {
    this.file = file;
    this.handle = handle;
    this.direct = direct;
  }

  async close(): Promise<void> {
    await this.direct?.close();
    await this.handle.close();
  }
}

function partOf({ position, start, length }: Piece, band: OpenBand | undefined): SourcePart[] {
  if (band === undefined) throw new RangeError('piece: of a band that is not open');
  const isAligned = position % DIRECT_BLOCK_BYTES === 0 && start % DIRECT_BLOCK_BYTES === 0;
  return [{ fd: band.handle.fd, directFd: isAligned ? band.direct?.fd : undefined, path: band.file, position, start, length }];
}

/** A number of things that may be in use at once; who wants more than are free waits in line. */
class Slots {
  #free: number;
  readonly #all: number;
  readonly #waiting: { readonly count: number; readonly go: () => void }[] = [];

  constructor(count: number) {
    this.#free = count;
    this.#all = count;
  }

  async use<T>(wanted: number, run: () => Promise<T>): Promise<T> {
    const count = Math.min(wanted, this.#all);
    if (this.#waiting.length > 0 || count > this.#free) await new Promise<void>((go) => this.#waiting.push({ count, go }));
    else this.#free -= count;
    try {
      return await run();
    } finally {
      this.#free += count;
      this.#wakeNext();
    }
  }

  #wakeNext(): void {
    for (let next = this.#waiting[0]; next !== undefined && next.count <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.count; // taken for it before it runs
      next.go();
    }
  }
}
