/**
 * A session's bytes, at any offset: what mounts, `restore -` and programs read. Random reads decode the chunk they
 * touch; once a reader goes forward, whole bands are decoded ahead by the worker pool, straight into shared memory.
 */
import { nodePrimitives } from '../crypto/node-primitives.ts';
import { createZstdCodec } from '../crypto/zstd.ts';
import type { BandContext } from '../format/band-header.ts';
import { bandRanges, CHUNK_BYTES } from '../format/geometry.ts';
import type { StoredBand } from '../format/index-page.ts';
import type { BandPool } from '../workers/band-pool.ts';
import { shareBandKeys } from '../workers/band-pool.ts';
import type { BandKeyMaterial } from '../workers/tasks.ts';
import { ChunkReader } from './chunk-reader.ts';
import { createCursor, type ImageExtent, type ReadableImage, type ReadCursor } from './image.ts';
import { ReadCache } from './read-cache.ts';
import type { SessionDirectory, VolumeContext } from './session-directory.ts';

export interface SessionImageOptions {
  /** Workers that decode ahead of sequential readers; without one, reads decode what they touch. */
  readonly pool?: BandPool;
  /** Memory for decoded data, in bytes. */
  readonly cacheBytes?: number | undefined;
  /** A cache that is shared with other images, instead of one of its own. */
  readonly cache?: ReadCache;
}

/** A reader is sequential once this many bytes came in order. */
const SEQUENTIAL_BYTES = 524_288;
/** Requests of one reader may overtake each other by this much: the kernel's read-ahead sends several at once. */
const REORDER_BYTES = 2_097_152;

/** The name of a band's content in a cache: sessions that share a band file share what was decoded of it. */
function bandKey(band: StoredBand): string {
  return Buffer.from(band.salt.buffer, band.salt.byteOffset, band.salt.length).toString('latin1');
}

export class SessionImage implements ReadableImage {
  readonly session: SessionDirectory;
  readonly #pool: BandPool | undefined;
  /** Whether the cache has room to decode bands ahead. */
  readonly #readsAhead: boolean;
  readonly #keys: BandKeyMaterial;
  readonly #reader: ChunkReader;
  readonly #cache: ReadCache;
  /** How many bands from the reader's on are decoded. */
  readonly #depth: number;

  constructor(session: SessionDirectory, options: SessionImageOptions = {}) {
    this.session = session;
    this.#cache = options.cache ?? new ReadCache(options.cacheBytes);
    this.#keys = shareBandKeys(session.context);
    this.#reader = new ChunkReader(contextOf(session.context), { keys: this.#keys, pool: options.pool });
    const capacity = this.#cache.bands.capacity(session.context.bandBytes);
    this.#pool = options.pool;
    this.#readsAhead = capacity >= 2 && options.pool !== undefined;
    this.#depth = Math.min(capacity - 1, (this.#pool?.capacity ?? 0) + 1);
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
      if (isSequential) await this.#decodeAhead(range.bandIndex);
      const band = await this.session.readBandEntry(range.bandIndex);
      const bytes = band === undefined ? undefined : await this.#cache.bands.get(bandKey(band));
      if (band === undefined) part.fill(0);
      else if (bytes !== undefined) part.set(bytes.subarray(range.start, range.start + range.length));
      else await this.#readChunks(part, { index: range.bandIndex, band }, range.start);
    }
  }

  /** @throws TimebandError RECORD_CORRUPT, RECORD_MISSING */
  async *extents(offset: number, length: number): AsyncGenerator<ImageExtent> {
    for (const range of bandRanges(offset, length, this.session.context.bandBytes))
      yield { length: range.length, isZero: (await this.session.readBandEntry(range.bandIndex)) === undefined };
  }

  #follow(cursor: ReadCursor, offset: number, length: number): boolean {
    const isNear = Math.abs(offset - cursor.nextOffset) <= REORDER_BYTES;
    cursor.runBytes = isNear ? cursor.runBytes + length : 0;
    cursor.nextOffset = isNear ? Math.max(cursor.nextOffset, offset + length) : offset + length;
    return this.#readsAhead && cursor.runBytes >= SEQUENTIAL_BYTES;
  }

  async #readChunks(out: Uint8Array, from: { readonly index: number; readonly band: StoredBand }, start: number): Promise<void> {
    const key = bandKey(from.band);
    const file = this.#bandPath(from.index);
    for (let at = 0; at < out.length; ) {
      const number = Math.floor((start + at) / CHUNK_BYTES);
      const within = (start + at) % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, out.length - at);
      const chunk = await this.#cache.chunks.get(`${key}${number}`, (decoded) =>
        this.#reader.read({ file, band: from.band, chunk: number, out: decoded }),
      );
      out.set(chunk.subarray(within, within + length), at);
      at += length;
    }
  }

  #bandPath(bandIndex: number): string {
    return this.session.bandPaths(bandIndex, 1)[0] ?? '';
  }

  /** Starts decoding this band and the ones after it, and waits for none. */
  async #decodeAhead(bandIndex: number): Promise<void> {
    await this.#startDecoding(bandIndex, true);
    for (let i = bandIndex + 1; i < Math.min(bandIndex + this.#depth, this.session.bandCount); i++) void this.#startDecoding(i, false);
  }

  async #startDecoding(bandIndex: number, isNeeded: boolean): Promise<void> {
    const band = await this.session.readBandEntry(bandIndex).catch(() => undefined); // the read that comes to it reports what is damaged
    if (band === undefined) return;
    this.#cache.bands.start(bandKey(band), {
      sizeBytes: this.session.context.bandBytes,
      isNeeded,
      decode: async (out) => {
        await this.#pool?.run('decodeBand', { keys: this.#keys, file: this.#bandPath(bandIndex), band, out });
      },
    });
  }
}

function contextOf({ cipher, bandBytes, padding, keys }: VolumeContext): BandContext {
  const { bandKey, domainId } = keys;
  return { primitives: nodePrimitives, codec: createZstdCodec(), cipher, bandBytes, padding, bandKey, domainId };
}
