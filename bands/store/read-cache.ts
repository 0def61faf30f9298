/** What images keep between reads. Those of one mount share one, so that its bounds hold for all of them together. */
import { BandCache } from './band-cache.ts';
import { ChunkCache } from './chunk-cache.ts';

const DEFAULT_CACHE_BYTES = 67_108_864;

export class ReadCache {
  /** Chunks that were read at random. */
  readonly chunks: ChunkCache;
  /** Bands decoded ahead of sequential readers. */
  readonly bands: BandCache;

  /** @param cacheBytes memory for decoded data: half for chunks, half for bands */
  constructor(cacheBytes: number = DEFAULT_CACHE_BYTES) {
    this.chunks = new ChunkCache(cacheBytes / 2);
    this.bands = new BandCache(cacheBytes / 2);
  }
}
