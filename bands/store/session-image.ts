/**
 * A session's bytes, at any offset: what mounts, `restore -` and programs read. Random reads decode the chunk they
 * touch; once a reader goes forward, whole bands are decoded ahead by the worker pool, straight into shared memory.
 */
import { nodePrimitives } from '../crypto/node-primitives.ts';
import { createZstdCodec } from '../crypto/zstd.ts';
import type { BandContext } from '../format/band-header.ts';
import { bandRanges, CHUNK_BYTES } from '../format/geometry.ts';
import type { BandPool } from '../workers/band-pool.ts';
import { shareBandKeys } from '../workers/band-pool.ts';
import type { BandKeyMaterial } from '../workers/tasks.ts';
import { type BandPlace, BandPlaces } from './band-places.ts';
import { ChunkReader } from './chunk-reader.ts';
import { createCursor, type ImageExtent, type ReadableImage, type ReadCursor, type ReadRun } from './image.ts';
import { ReadCache } from './read-cache.ts';
import { followRun } from './read-cursor.ts';
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
  readonly #places: BandPlaces;

  constructor(session: SessionDirectory, options: SessionImageOptions = {}) {
    this.session = session;
    this.#places = new BandPlaces(session);
    this.#cache = options.cache ?? new ReadCache(options.cacheBytes);
    this.#keys = shareBandKeys(session.context);
    this.#reader = new ChunkReader(contextOf(session.context), { keys: this.#keys, pool: options.pool, headers: this.#cache.headers });
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
    const run = followRun(cursor, offset, out.length);
    const isSequential = this.#readsAhead && run.bytes >= SEQUENTIAL_BYTES;
    for (const range of bandRanges(offset, out.length, bandBytes)) {
      const part = out.subarray(range.position, range.position + range.length);
      const end = range.start + range.length;
      const known = this.#places.get(range.bandIndex);
      const place = known instanceof Promise ? await known : known;
      if (isSequential && run.bandIndex !== range.bandIndex) await this.#decodeAhead(range.bandIndex, run);
      if (place === undefined) {
        part.fill(0);
        continue;
      }
      const decoded = this.#cache.bands.get(place.name, end === bandBytes);
      const bytes = decoded instanceof Promise ? await decoded : decoded;
      if (bytes !== undefined) part.set(bytes.subarray(range.start, end));
      else {
        run.bandIndex = undefined; // driven out, or it had no room: the next request tries again
        await this.#readChunks(part, place, range.start);
      }
    }
  }

  /** @throws TimebandError RECORD_CORRUPT, RECORD_MISSING */
  async *extents(offset: number, length: number): AsyncGenerator<ImageExtent> {
    for (const range of bandRanges(offset, length, this.session.context.bandBytes))
      yield { length: range.length, isZero: (await this.session.readBandEntry(range.bandIndex)) === undefined };
  }

  async #readChunks(out: Uint8Array, place: BandPlace, start: number): Promise<void> {
    for (let at = 0; at < out.length; ) {
      const number = Math.floor((start + at) / CHUNK_BYTES);
      const within = (start + at) % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, out.length - at);
      const chunk = await this.#cache.chunks.get(`${place.name}${number}`, (decoded) => this.#reader.read({ ...place, chunk: number, out: decoded }));
      out.set(chunk.subarray(within, within + length), at);
      at += length;
    }
  }

  /** Starts decoding this band and the ones that the reader comes to next, and waits for none. */
  async #decodeAhead(bandIndex: number, run: ReadRun): Promise<void> {
    run.bandIndex = bandIndex;
    await this.#startDecoding(bandIndex, true);
    for (let i = 1; i < this.#depth; i++) {
      const next = run.isBackward ? bandIndex - i : bandIndex + i;
      if (next >= 0 && next < this.session.bandCount) void this.#startDecoding(next, false);
    }
  }

  async #startDecoding(bandIndex: number, isNeeded: boolean): Promise<void> {
    const place = await Promise.resolve(this.#places.get(bandIndex)).catch(() => undefined); // the read that comes to it reports what is damaged
    if (place === undefined) return;
    const { file, band } = place;
    this.#cache.bands.start(place.name, {
      sizeBytes: this.session.context.bandBytes,
      isNeeded,
      decode: async (out) => {
        await this.#pool?.run('decodeBand', { keys: this.#keys, file, band, out });
      },
    });
  }
}

function contextOf({ cipher, bandBytes, padding, keys }: VolumeContext): BandContext {
  const { bandKey, domainId } = keys;
  return { primitives: nodePrimitives, codec: createZstdCodec(), cipher, bandBytes, padding, bandKey, domainId };
}
