/**
 * Decoding single chunks for readers that jump about: in this thread while the disk answers at once (handing a chunk to a
 * worker and back takes as long as decoding it), by the workers where it does not, so that readers wait side by side and
 * not one after the other.
 */
import type { BandContext } from '../format/band-header.ts';
import type { BandPool } from '../workers/band-pool.ts';
import type { BandKeyMaterial } from '../workers/tasks.ts';
import { type ChunkRequest, readChunk } from './read-chunk.ts';

/** A disk that takes longer is one to wait for elsewhere. */
const AT_ONCE_MS = 3;

export class ChunkReader {
  readonly #context: BandContext;
  readonly #keys: BandKeyMaterial;
  readonly #pool: BandPool | undefined;
  #isQuick = true;

  /** @param pool workers; without one, all is decoded here */
  constructor(context: BandContext, options: { readonly keys: BandKeyMaterial; readonly pool: BandPool | undefined }) {
    this.#context = context;
    this.#keys = options.keys;
    this.#pool = options.pool;
  }

  /**
   * Decodes one chunk into `request.out`, which lies over a SharedArrayBuffer.
   * @throws TimebandError BAND_MISSING, BAND_CORRUPT, IO_ERROR
   */
  async read(request: ChunkRequest): Promise<void> {
    const startedAt = performance.now();
    try {
      if (this.#pool === undefined || this.#isQuick) readChunk(this.#context, request);
      else await this.#pool.run('readChunk', { keys: this.#keys, ...request });
    } finally {
      this.#isQuick = performance.now() - startedAt < AT_ONCE_MS;
    }
  }
}
