/**
 * Whole bands decoded ahead of readers, bounded in bytes. A band that a reader waits for always gets room, whichever was
 * not used for longest; one that is only going to be wanted never drives out another that nobody has read yet, so many
 * readers decode less far ahead instead of decoding the same bands again and again.
 */
import { SpareBuffers } from './spare-buffers.ts';

interface CachedBand {
  readonly sizeBytes: number;
  /** Undefined once decoding failed: then chunks are read one by one, and only the bad one fails. */
  readonly bytes: Promise<Uint8Array | undefined>;
  isRead: boolean;
}

export interface BandRequest {
  readonly sizeBytes: number;
  /** Whether a reader is at this band, or only comes to it. */
  readonly isNeeded: boolean;
  /** Fills a buffer that all threads share. */
  readonly decode: (out: Uint8Array) => Promise<void>;
}

export class BandCache {
  readonly #maxBytes: number;
  readonly #bands = new Map<string, CachedBand>();
  readonly #spares: SpareBuffers;
  #usedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#spares = new SpareBuffers(maxBytes / 4, (sizeBytes) => new Uint8Array(new SharedArrayBuffer(sizeBytes)));
  }

  /** How many bands of a size have room. */
  capacity(sizeBytes: number): number {
    return Math.floor(this.#maxBytes / sizeBytes);
  }

  /**
   * The band of that name, if it is here or on its way. The bytes are to be copied in the turn in which they come: later
   * they may be another band's.
   */
  get(key: string): Promise<Uint8Array | undefined> | undefined {
    const band = this.#bands.get(key);
    if (band !== undefined) band.isRead = true;
    return band?.bytes;
  }

  /** Starts decoding a band, unless it is here or has no room. */
  start(key: string, request: BandRequest): void {
    const known = this.#bands.get(key);
    if (known !== undefined) {
      this.#bands.delete(key); // to the young end again
      this.#bands.set(key, known);
      return;
    }
    if (!this.#makeRoom(request)) return;
    this.#usedBytes += request.sizeBytes;
    this.#bands.set(key, { sizeBytes: request.sizeBytes, bytes: this.#decode(request), isRead: false });
  }

  #makeRoom({ sizeBytes, isNeeded }: BandRequest): boolean {
    for (const [key, band] of this.#bands) {
      if (this.#usedBytes + sizeBytes <= this.#maxBytes) break;
      if (isNeeded || band.isRead) this.#drop(key, band);
    }
    return this.#usedBytes + sizeBytes <= this.#maxBytes;
  }

  #drop(key: string, band: CachedBand): void {
    this.#bands.delete(key);
    this.#usedBytes -= band.sizeBytes;
    void band.bytes.then((bytes) => {
      if (bytes !== undefined) this.#spares.giveLater(bytes);
    });
  }

  async #decode({ sizeBytes, decode }: BandRequest): Promise<Uint8Array | undefined> {
    const out = this.#spares.take(sizeBytes);
    try {
      await decode(out);
      return out;
    } catch {
      this.#spares.give(out);
      return undefined; // the reader goes chunk by chunk and reports exactly what is damaged
    }
  }
}
