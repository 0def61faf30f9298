/**
 * Decoding single chunks for readers that jump about: in this thread while the disk answers at once and nobody else waits, by the
 * workers otherwise, so that readers wait side by side and not one after the other.
 */
import type { BandContext } from '../format/band-file.ts';
import type { BandPool } from '../workers/band-pool.ts';
import type { BandKeyMaterial } from '../workers/tasks.ts';
import type { ReadCache } from './read-cache.ts';
import { type ChunkRequest, readChunk } from './read-chunk.ts';

/** A disk that takes longer is one to wait for elsewhere. */
const AT_ONCE_MS = 3;

export class ChunkReader {
  readonly #context: BandContext;
  readonly #keys: BandKeyMaterial;
  readonly #pool: BandPool | undefined;
  readonly #cache: ReadCache;
  #isQuick = true;

  /** @param pool workers; without one, all is decoded here */
  constructor(context: BandContext, options: { readonly keys: BandKeyMaterial; readonly pool: BandPool | undefined; readonly cache: ReadCache }) {
    this.#context = context;
    this.#keys = options.keys;
    this.#pool = options.pool;
    this.#cache = options.cache;
  }

  /**
   * Decodes one chunk into `request.out`, which lies over a SharedArrayBuffer.
   * @throws TimebandError BAND_MISSING, BAND_CORRUPT, IO_ERROR
   */
  async read(request: ChunkRequest): Promise<void> {
    if (this.#pool === undefined) return readChunk(this.#context, request, this.#cache.headers);
    const isQuick = this.#isQuick;
    const doer = isQuick ? await this.#cache.turns.next(this.#pool.threads) : 'worker';
    const startedAt = performance.now();
    try {
      if (doer === 'here') readChunk(this.#context, request, this.#cache.headers);
      else await this.#pool.run('readChunk', { keys: this.#keys, ...request });
    } finally {
      if (isQuick && doer === 'worker') this.#cache.turns.done();
      else this.#isQuick = performance.now() - startedAt < AT_ONCE_MS;
    }
  }
}
