/** What images keep between reads. Those of one mount share one, so that its bounds hold for all of them together. */
import { BandCache } from './band-cache.ts';
import { ChunkCache } from './chunk-cache.ts';
import { HeaderCache } from './header-cache.ts';

const DEFAULT_CACHE_BYTES = 268_435_456;

export class ReadCache {
  /** Chunks that were read at random. */
  readonly chunks: ChunkCache;
  /** Bands decoded ahead of sequential readers. */
  readonly bands: BandCache;
  /** Of the band files that chunks are read of. */
  readonly headers: HeaderCache = new HeaderCache();

  /** @param cacheBytes the most memory for decoded data, taken as it is needed: half for chunks, half for bands */
  constructor(cacheBytes: number = DEFAULT_CACHE_BYTES) {
    this.chunks = new ChunkCache(cacheBytes / 2);
    this.bands = new BandCache(cacheBytes / 2);
  }
}
