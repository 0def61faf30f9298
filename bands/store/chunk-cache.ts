/** Decoded chunks in memory that workers share, least recently used out first, bounded in bytes. */
import { CHUNK_BYTES } from '../format/geometry.ts';
import { SpareBuffers } from './spare-buffers.ts';

/** More than are driven out in one turn of the event loop: what is not kept is freed much later. */
const SPARE_CHUNKS = 64;
/** Shared memory is asked for in pieces of so many: to get it for each chunk costs as much as to decode one. */
const SLAB_CHUNKS = 16;

export class ChunkCache {
  readonly #capacity: number;
  readonly #chunks = new Map<string, Promise<Uint8Array>>();
  readonly #spares: SpareBuffers;

  /** @param maxBytes at least one chunk is always kept */
  constructor(maxBytes: number) {
    this.#capacity = Math.max(1, Math.floor(maxBytes / CHUNK_BYTES));
    this.#spares = new SpareBuffers(SPARE_CHUNKS * CHUNK_BYTES, cutFromSlabs(Math.min(SLAB_CHUNKS, this.#capacity) * CHUNK_BYTES));
  }

  /**
   * The chunk of that name; loads it if it is not here, into the buffer that `load` is given. A failed load is not kept.
   * The bytes are to be copied in the turn in which they come: later they may be another chunk's.
   */
  get(key: string, load: (out: Uint8Array) => Promise<void>): Promise<Uint8Array> {
    const known = this.#chunks.get(key);
    if (known !== undefined) {
      this.#chunks.delete(key); // to the young end again
      this.#chunks.set(key, known);
      return known;
    }
    const loading = this.#load(load);
    this.#chunks.set(key, loading);
    loading.catch(() => {
      if (this.#chunks.get(key) === loading) this.#chunks.delete(key);
    });
    this.#trim();
    return loading;
  }

  async #load(load: (out: Uint8Array) => Promise<void>): Promise<Uint8Array> {
    const out = this.#spares.take(CHUNK_BYTES);
    try {
      await load(out);
      return out;
    } catch (error) {
      this.#spares.give(out);
      throw error;
    }
  }

  #trim(): void {
    for (const [key, chunk] of this.#chunks) {
      if (this.#chunks.size <= this.#capacity) return;
      this.#chunks.delete(key);
      chunk.then(
        (bytes) => this.#spares.giveLater(bytes),
        () => undefined, // a failed load gave it back itself
      );
    }
  }
}

function cutFromSlabs(slabBytes: number): (sizeBytes: number) => Uint8Array {
  let slab: Uint8Array = new Uint8Array(0);
  return (sizeBytes) => {
    if (slab.length < sizeBytes) slab = new Uint8Array(new SharedArrayBuffer(slabBytes));
    const piece = slab.subarray(0, sizeBytes);
    slab = slab.subarray(sizeBytes);
    return piece;
  };
}
