/** Decoded chunks, least recently used out first, bounded in bytes. */

export class ChunkCache {
  readonly #capacity: number;
  readonly #chunks = new Map<number, Promise<Uint8Array>>();

  /** @param maxBytes at least one chunk is always kept */
  constructor(maxBytes: number, chunkBytes: number) {
    this.#capacity = Math.max(1, Math.floor(maxBytes / chunkBytes));
  }

  /** The chunk of that number; loads it if it is not here. A failed load is not kept. */
  get(chunkNumber: number, load: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const known = this.#chunks.get(chunkNumber);
    if (known !== undefined) {
      this.#chunks.delete(chunkNumber); // to the young end again
      this.#chunks.set(chunkNumber, known);
      return known;
    }
    const loading = load();
    this.#chunks.set(chunkNumber, loading);
    loading.catch(() => this.#chunks.delete(chunkNumber));
    const oldest = this.#chunks.keys().next().value;
    if (this.#chunks.size > this.#capacity && oldest !== undefined) this.#chunks.delete(oldest);
    return loading;
  }
}
