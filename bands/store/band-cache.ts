/**
 * Whole bands decoded ahead of readers, bounded in bytes. A band that a reader waits for always gets room, whichever was
 * not used for longest; one that is only going to be wanted never drives out another that nobody has read yet, so many
 * readers decode less far ahead instead of decoding the same bands again and again. What was read to its end is rarely wanted
 * again (the kernel has it), so it makes room long before the bound is reached.
 */

/** Bands that were read to their end are kept up to this: for readers close behind. */
const KEPT_BYTES = 33_554_432;

interface CachedBand {
  readonly sizeBytes: number;
  readonly out: Uint8Array;
  /** Undefined once decoding failed: then chunks are read one by one, and only the bad one fails. */
  bytes: Uint8Array | Promise<Uint8Array | undefined> | undefined;
  isRead: boolean;
  /** Whether its last byte was read. */
  isFinished: boolean;
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
  /** Buffers without a band. Shared memory that is let go of stays allocated for long, so buffers are used again and again. */
  #free: Uint8Array[] = [];
  #allocatedBytes = 0;
  #usedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** How many bands of a size have room. */
  capacity(sizeBytes: number): number {
    return Math.floor(this.#maxBytes / sizeBytes);
  }

  /**
   * The band of that name, if it is here (then at once) or on its way. The bytes are to be copied in the turn in which they come: later
   * they may be another band's.
   * @param isToItsEnd whether the last byte of the band is read now
   */
  get(key: string, isToItsEnd = false): Uint8Array | Promise<Uint8Array | undefined> | undefined {
    const band = this.#bands.get(key);
    if (band === undefined) return undefined;
    this.#bands.delete(key); // to the young end again
    this.#bands.set(key, band);
    band.isRead = true;
    band.isFinished ||= isToItsEnd;
    return band.bytes;
  }

  /** Starts decoding a band, unless it is here or has no room just now. */
  start(key: string, request: BandRequest): void {
    if (this.#bands.has(key)) return;
    const out = this.#makeRoom(request) ? this.#take(request.sizeBytes) : undefined;
    if (out === undefined) return;
    this.#usedBytes += request.sizeBytes;
    const bytes = decodeInto(out, request);
    const band: CachedBand = { sizeBytes: request.sizeBytes, out, bytes, isRead: false, isFinished: false };
    this.#bands.set(key, band);
    void bytes.then((decoded) => {
      band.bytes = decoded;
    });
  }

  /**
   * A buffer, if one is free or may be made: one more than have room, since that of a band that was driven out comes
   * free a little later.
   */
  #take(sizeBytes: number): Uint8Array | undefined {
    const at = this.#free.findIndex((one) => one.length === sizeBytes);
    if (at >= 0) return this.#free.splice(at, 1)[0];
    while (this.#allocatedBytes > this.#maxBytes && this.#free.length > 0) this.#allocatedBytes -= this.#free.pop()?.length ?? 0; // of other sizes
    if (this.#allocatedBytes > this.#maxBytes) return undefined;
    this.#allocatedBytes += sizeBytes;
    return new Uint8Array(new SharedArrayBuffer(sizeBytes));
  }

  #makeRoom({ sizeBytes, isNeeded }: BandRequest): boolean {
    for (const [key, band] of this.#bands) {
      const wantedBytes = this.#usedBytes + sizeBytes;
      if (wantedBytes <= Math.min(KEPT_BYTES, this.#maxBytes)) break;
      if (wantedBytes > this.#maxBytes ? isNeeded || band.isRead : band.isFinished) this.#drop(key, band);
    }
    return this.#usedBytes + sizeBytes <= this.#maxBytes;
  }

  #drop(key: string, band: CachedBand): void {
    this.#bands.delete(key);
    this.#usedBytes -= band.sizeBytes;
    // Readers that awaited the bytes copy from them in the turn in which they get them.
    void Promise.resolve(band.bytes).then(() => setImmediate(() => this.#free.push(band.out)));
  }
}

async function decodeInto(out: Uint8Array, { decode }: BandRequest): Promise<Uint8Array | undefined> {
  try {
    await decode(out);
    return out;
  } catch {
    return undefined; // the reader goes chunk by chunk and reports exactly what is damaged
  }
}
