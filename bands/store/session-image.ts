/**
 * A session's bytes, at any offset: what mounts, `restore -` and programs read. Random reads decode the chunk they
 * touch; once a reader goes forward, whole bands are decoded ahead by the worker pool, straight into shared memory.
 */
import { bandRanges, CHUNK_BYTES, chunksPerBand } from '../format/geometry.ts';
import type { BandPool } from '../workers/band-pool.ts';
import { shareBandKeys } from '../workers/band-pool.ts';
import type { BandKeyMaterial } from '../workers/tasks.ts';
import { BandFileReader } from './band-file-reader.ts';
import { ChunkCache } from './chunk-cache.ts';
import type { SessionDirectory } from './session-directory.ts';

export interface SessionImageOptions {
  /** Workers that decode ahead of sequential readers; without one, reads decode what they touch. */
  readonly pool?: BandPool;
  /** Memory for decoded data, in bytes; half for chunks, half for bands decoded ahead. */
  readonly cacheBytes?: number | undefined;
}

const DEFAULT_CACHE_BYTES = 67_108_864;
/** A reader is sequential once this many bytes came in order. */
const SEQUENTIAL_BYTES = 524_288;
/** Requests of one reader may overtake each other by this much: the kernel's read-ahead sends several at once. */
const REORDER_BYTES = 2_097_152;

/** Where one reader is; one for each open file, so that several readers are each recognised. */
export interface ReadCursor {
  nextOffset: number;
  runBytes: number;
}

export function createCursor(): ReadCursor {
  return { nextOffset: 0, runBytes: 0 };
}

/** A band being decoded, or decoded. */
interface AheadBand {
  /** The bytes, undefined once decoding failed: then chunks are read one by one, and only the bad one fails. */
  readonly bytes: Promise<Uint8Array | undefined>;
}

export class SessionImage {
  readonly session: SessionDirectory;
  readonly #pool: BandPool | undefined;
  readonly #keys: BandKeyMaterial;
  readonly #reader: BandFileReader;
  readonly #chunks: ChunkCache;
  readonly #ahead = new Map<number, AheadBand>();
  readonly #spare: Uint8Array[] = [];
  readonly #maxAhead: number;
  /** What every zero band reads as. */
  #zeros: Uint8Array | undefined;

  constructor(session: SessionDirectory, options: SessionImageOptions = {}) {
    const { bandBytes } = session.context;
    const cacheBytes = options.cacheBytes ?? DEFAULT_CACHE_BYTES;
    this.session = session;
    this.#keys = shareBandKeys(session.context);
    this.#reader = new BandFileReader(session.context);
    this.#chunks = new ChunkCache(cacheBytes / 2, CHUNK_BYTES);
    this.#maxAhead = Math.floor(cacheBytes / 2 / bandBytes);
    this.#pool = this.#maxAhead >= 2 ? options.pool : undefined;
  }

  get sizeBytes(): number {
    return this.session.manifest.sizeBytes;
  }

  /**
   * Fills `out` from `offset`. A read that ends beyond the volume is a caller's mistake.
   * @throws TimebandError BAND_MISSING, BAND_CORRUPT, RECORD_CORRUPT, IO_ERROR; nothing of `out` is then to be used
   */
  async read(out: Uint8Array, offset: number, cursor: ReadCursor = createCursor()): Promise<void> {
    if (offset < 0 || offset + out.length > this.sizeBytes) throw new RangeError('offset: the range is not within the volume');
    const { bandBytes } = this.session.context;
    const isSequential = this.#follow(cursor, offset, out.length);
    for (const range of bandRanges(offset, out.length, bandBytes)) {
      const part = out.subarray(range.position, range.position + range.length);
      if (isSequential) this.#decodeAhead(range.bandIndex);
      const ahead = await this.#ahead.get(range.bandIndex)?.bytes;
      if (ahead !== undefined) part.set(ahead.subarray(range.start, range.start + range.length));
      else await this.#readChunks(part, range.bandIndex, range.start);
    }
  }

  #follow(cursor: ReadCursor, offset: number, length: number): boolean {
    const isNear = Math.abs(offset - cursor.nextOffset) <= REORDER_BYTES;
    cursor.runBytes = isNear ? cursor.runBytes + length : 0;
    cursor.nextOffset = isNear ? Math.max(cursor.nextOffset, offset + length) : offset + length;
    return this.#pool !== undefined && cursor.runBytes >= SEQUENTIAL_BYTES;
  }

  async #readChunks(out: Uint8Array, bandIndex: number, start: number): Promise<void> {
    for (let at = 0; at < out.length; ) {
      const number = Math.floor((start + at) / CHUNK_BYTES);
      const within = (start + at) % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, out.length - at);
      const chunk = await this.#chunk(bandIndex, number);
      if (chunk === undefined) out.fill(0, at, at + length);
      else out.set(chunk.subarray(within, within + length), at);
      at += length;
    }
  }

  /** The bytes of a chunk, or undefined for a chunk of a zero band. */
  async #chunk(bandIndex: number, number: number): Promise<Uint8Array | undefined> {
    const band = await this.session.readBandEntry(bandIndex);
    if (band === undefined) return undefined;
    return await this.#chunks.get(bandIndex * chunksPerBand(this.session.context.bandBytes) + number, async () => {
      const out = new Uint8Array(CHUNK_BYTES);
      await this.#reader.readChunk(this.#bandPath(bandIndex), band, { number, out });
      return out;
    });
  }

  #bandPath(bandIndex: number): string {
    return this.session.bandPaths(bandIndex, 1)[0] ?? '';
  }

  /** Starts decoding this band and the ones after it; drops the ones longest unused. */
  #decodeAhead(bandIndex: number): void {
    const depth = Math.min(this.#maxAhead - 1, (this.#pool?.capacity ?? 0) + 1);
    for (let i = bandIndex; i < Math.min(bandIndex + depth, this.session.bandCount); i++) {
      const known = this.#ahead.get(i);
      if (known !== undefined) this.#ahead.delete(i); // to the young end again
      this.#ahead.set(i, known ?? { bytes: this.#decode(i) });
    }
    for (const [i, band] of this.#ahead) {
      if (this.#ahead.size <= this.#maxAhead) break;
      this.#ahead.delete(i);
      void band.bytes.then((bytes) => this.#recycle(bytes));
    }
  }

  #recycle(bytes: Uint8Array | undefined): void {
    // A reader that awaits `bytes` copies in the same turn that it gets them, so one turn later nobody looks at it.
    if (bytes !== undefined && bytes !== this.#zeros && this.#spare.length < this.#maxAhead) setImmediate(() => this.#spare.push(bytes));
  }

  async #decode(bandIndex: number): Promise<Uint8Array | undefined> {
    try {
      const band = await this.session.readBandEntry(bandIndex);
      const { bandBytes } = this.session.context;
      if (band === undefined) {
        this.#zeros ??= new Uint8Array(bandBytes);
        return this.#zeros;
      }
      const out = this.#spare.pop() ?? new Uint8Array(new SharedArrayBuffer(bandBytes));
      await this.#pool?.run('decodeBand', { keys: this.#keys, file: this.#bandPath(bandIndex), band, out });
      return out;
    } catch {
      return undefined; // read() then goes chunk by chunk and reports exactly what is damaged
    }
  }

  /** Closes the files. The pool is the caller's. */
  async close(): Promise<void> {
    await this.#reader.close();
    this.#ahead.clear();
  }
}
