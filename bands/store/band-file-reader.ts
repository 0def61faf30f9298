/** Random access to the chunks of band files. */
import { nodePrimitives } from '../crypto/node-primitives.ts';
import { createZstdCodec } from '../crypto/zstd.ts';
import { ioError, withPath } from '../errors.ts';
import { type BandContext, bandHeaderBytes, openBandHeader, openChunk } from '../format/band-file.ts';
import { CHUNK_BYTES } from '../format/geometry.ts';
import type { StoredBand } from '../format/index-page.ts';
import { TAG_BYTES } from '../format/primitives.ts';
import { readFully } from './files.ts';
import { openBandFile } from './open-band-file.ts';
import { type BandFile, OpenBandFiles } from './open-band-files.ts';
import type { VolumeContext } from './session-directory.ts';
import { SpareBuffers } from './spare-buffers.ts';

const MAX_SEALED_BYTES = CHUNK_BYTES + TAG_BYTES;
const MAX_SPARE_BYTES = 8 * MAX_SEALED_BYTES;

async function openWithHeader(context: BandContext, file: string, band: StoredBand): Promise<BandFile> {
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
  readonly #files: OpenBandFiles;
  readonly #scratch = new Uint8Array(CHUNK_BYTES);
  readonly #sealed = new SpareBuffers(MAX_SPARE_BYTES);

  /** @param files where files are held open, shared with other readers */
  constructor(volume: VolumeContext, files: OpenBandFiles = new OpenBandFiles()) {
    this.#files = files;
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
    const buffer = this.#sealed.take(MAX_SEALED_BYTES);
    try {
      await this.#files.hold(this, file, {
        open: () => openWithHeader(this.#context, file, band),
        use: async ({ header, handle }) => {
          const place = header.chunks[chunk.number];
          if (place === undefined) throw new RangeError('chunk.number: beyond the band');
          const sealed = buffer.subarray(0, place.length);
          await readFully(handle, sealed, place.offset, file);
          openChunk(this.#context, header, { number: chunk.number, sealed, scratch: this.#scratch, out: chunk.out });
        },
      });
    } catch (error) {
      throw ioError(withPath(error, file), 'read the band file', file);
    } finally {
      this.#sealed.give(buffer);
    }
  }

  /** Closes the files that this reader opened. */
  async close(): Promise<void> {
    await this.#files.dropOf(this);
  }
}
