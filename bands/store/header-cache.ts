/**
 * Authenticated headers of the band files that chunks were read of last. To read and derive one again takes a third of the time
 * that a small chunk takes. They hold keys of single bands, so they live and die with the decoded chunks beside them.
 */
import type { BandHeader } from '../format/band-header.ts';

/** In all; a header takes about 60 bytes for each chunk of its band. */
const MAX_CHUNKS = 65_536;

export class HeaderCache {
  readonly #headers = new Map<string, BandHeader>();
  #chunks = 0;

  /** @param key names one sealing of a band */
  get(key: string): BandHeader | undefined {
    const known = this.#headers.get(key);
    if (known === undefined) return undefined;
    this.#headers.delete(key); // to the young end again
    this.#headers.set(key, known);
    return known;
  }

  put(key: string, header: BandHeader): void {
    this.#headers.set(key, header);
    this.#chunks += header.chunks.length;
    for (const [oldest, { chunks }] of this.#headers) {
      if (this.#chunks <= MAX_CHUNKS || oldest === key) return;
      this.#headers.delete(oldest);
      this.#chunks -= chunks.length;
    }
  }
}
