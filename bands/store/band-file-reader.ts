/** Random access to the chunks of band files, with a bounded number of them held open. */
import type { FileHandle } from 'node:fs/promises';
import { nodePrimitives } from '../crypto/node-primitives.ts';
import { createZstdCodec } from '../crypto/zstd.ts';
import { ioError, withPath } from '../errors.ts';
import { type BandContext, type BandHeader, bandHeaderBytes, openBandHeader, openChunk } from '../format/band-file.ts';
import { CHUNK_BYTES } from '../format/geometry.ts';
import type { StoredBand } from '../format/index-page.ts';
import { readFully } from './files.ts';
import { openBandFile } from './open-band-file.ts';
import type { VolumeContext } from './session-directory.ts';

const MAX_OPEN_FILES = 24;

/** A band file with its header checked. */
class OpenBand {
  readonly file: string;
  readonly header: BandHeader;
  readonly #handle: FileHandle;
  #users = 0;
  #isDropped = false;

  constructor(file: string, header: BandHeader, handle: FileHandle) {
    this.file = file;
    this.header = header;
    this.#handle = handle;
  }

  static async open(context: BandContext, file: string, band: StoredBand): Promise<OpenBand> {
    const handle = await openBandFile(file, band);
    try {
      const start = new Uint8Array(bandHeaderBytes(context.bandBytes));
      await readFully(handle, start, 0, file);
      return new OpenBand(file, openBandHeader(context, start, band), handle);
    } catch (error) {
      await handle.close();
      throw ioError(withPath(error, file), 'read the band file', file);
    }
  }

  /** Runs `use` with the file open, whatever the cache drops meanwhile. */
  async hold<T>(use: (handle: FileHandle) => Promise<T>): Promise<T> {
    this.#users++;
    try {
      return await use(this.#handle);
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
    if (this.#isDropped && this.#users === 0) await this.#handle.close();
  }
}

export class BandFileReader {
  readonly #context: BandContext;
  readonly #open = new Map<string, Promise<OpenBand>>();
  readonly #scratch = new Uint8Array(CHUNK_BYTES);

  constructor(volume: VolumeContext) {
    this.#context = {
      primitives: nodePrimitives,
      codec: createZstdCodec(),
      cipher: volume.cipher,
      bandBytes: volume.bandBytes,
      bandKey: volume.keys.bandKey,
      domainId: volume.keys.domainId,
    };
  }

  /**
   * Decodes one chunk of a band file into `out` (128 KiB).
   * @throws TimebandError BAND_MISSING, BAND_CORRUPT, IO_ERROR
   */
  async readChunk(file: string, band: StoredBand, chunk: { readonly number: number; readonly out: Uint8Array }): Promise<void> {
    const opened = await this.#openBand(file, band);
    const place = opened.header.chunks[chunk.number];
    if (place === undefined) throw new RangeError('chunk.number: beyond the band');
    const sealed = new Uint8Array(place.length);
    try {
      await opened.hold((handle) => readFully(handle, sealed, place.offset, file));
      openChunk(this.#context, opened.header, { number: chunk.number, sealed, scratch: this.#scratch, out: chunk.out });
    } catch (error) {
      throw ioError(withPath(error, file), 'read the band file', file);
    }
  }

  async #openBand(file: string, band: StoredBand): Promise<OpenBand> {
    const known = this.#open.get(file);
    if (known !== undefined) {
      this.#open.delete(file); // to the young end again
      this.#open.set(file, known);
      return await known;
    }
    const opening = OpenBand.open(this.#context, file, band);
    this.#open.set(file, opening);
    opening.catch(() => this.#open.delete(file));
    const oldest = this.#open.entries().next().value;
    if (this.#open.size > MAX_OPEN_FILES && oldest !== undefined) {
      this.#open.delete(oldest[0]);
      await oldest[1].then((old) => old.drop()).catch(() => undefined); // one that never opened has nothing to close
    }
    return await opening;
  }

  async close(): Promise<void> {
    const all = [...this.#open.values()];
    this.#open.clear();
    for (const opening of all) await opening.then((opened) => opened.drop()).catch(() => undefined);
  }
}
