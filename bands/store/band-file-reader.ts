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

/** A band file being opened, or open with its header checked. Counted synchronously, so that none in use is closed. */
class OpenBand {
  readonly #opening: Promise<{ readonly header: BandHeader; readonly handle: FileHandle }>;
  #users = 0;
  #isDropped = false;

  constructor(context: BandContext, file: string, band: StoredBand) {
    this.#opening = openWithHeader(context, file, band);
  }

  /** Runs `use` with the file open, whatever the cache drops meanwhile. */
  async hold<T>(use: (header: BandHeader, handle: FileHandle) => Promise<T>): Promise<T> {
    this.#users++;
    try {
      const { header, handle } = await this.#opening;
      return await use(header, handle);
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

async function openWithHeader(
  context: BandContext,
  file: string,
  band: StoredBand,
): Promise<{ readonly header: BandHeader; readonly handle: FileHandle }> {
  const handle = await openBandFile(file, band);
  try {
    const start = new Uint8Array(bandHeaderBytes(context.bandBytes));
    await readFully(handle, start, 0, file);
    return { header: openBandHeader(context, start, band), handle };
  } catch (error) {
    await handle.close();
    throw ioError(withPath(error, file), 'read the band file', file);
  }
}

export class BandFileReader {
  readonly #context: BandContext;
  readonly #open = new Map<string, OpenBand>();
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
    const opened = this.#lookUp(file, band);
    try {
      await opened.hold(async (header, handle) => {
        const place = header.chunks[chunk.number];
        if (place === undefined) throw new RangeError('chunk.number: beyond the band');
        const sealed = new Uint8Array(place.length);
        await readFully(handle, sealed, place.offset, file);
        openChunk(this.#context, header, { number: chunk.number, sealed, scratch: this.#scratch, out: chunk.out });
      });
    } catch (error) {
      if (this.#open.get(file) === opened) this.#open.delete(file); // the next reader tries afresh
      void opened.drop();
      throw ioError(withPath(error, file), 'read the band file', file);
    }
  }

  #lookUp(file: string, band: StoredBand): OpenBand {
    const known = this.#open.get(file);
    if (known !== undefined) {
      this.#open.delete(file); // to the young end again
      this.#open.set(file, known);
      return known;
    }
    const opened = new OpenBand(this.#context, file, band);
    this.#open.set(file, opened);
    const oldest = this.#open.entries().next().value;
    if (this.#open.size > MAX_OPEN_FILES && oldest !== undefined) {
      this.#open.delete(oldest[0]);
      void oldest[1].drop();
    }
    return opened;
  }

  async close(): Promise<void> {
    const all = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(all.map((opened) => opened.drop()));
  }
}
