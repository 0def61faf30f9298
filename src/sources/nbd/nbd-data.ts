/** A disk that is read over NBD: its bytes for the workers, where data is, and what a QEMU bitmap calls changed. */
import { type ByteRange, mergeRanges } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import type { NbdClient } from '../../nbd/client/nbd-client.ts';
import { ALLOCATION, BASE_ALLOCATION, DIRTY_BITMAP_PREFIX } from '../../nbd/protocol.ts';
import { DataMap } from '../data-map.ts';
import { SharedBuffers } from './shared-buffers.ts';

/** Ranges with less than this between them are kept as one: memory is bounded, and a band is read as a whole anyway. */
const NEAR_BYTES = 65_536;

interface Maps {
  readonly data: DataMap;
  /** What the bitmap calls dirty. */
  readonly dirty: readonly ByteRange[];
  /** That, and all that is a hole or zero. */
  readonly changed: readonly ByteRange[];
}

export class NbdData {
  readonly #client: NbdClient;
  readonly #bitmap: string | undefined;
  readonly #buffers = new SharedBuffers();
  #maps: Promise<Maps> | undefined;

  /** @param bitmap the one that the client asked for */
  constructor(client: NbdClient, bitmap: string | undefined) {
    this.#client = client;
    this.#bitmap = bitmap;
  }

  /** Only what is a hole and reads as zeros is left out; undefined if the server does not tell. */
  async readDataMap(): Promise<DataMap | undefined> {
    if (!this.#client.contexts.has(BASE_ALLOCATION)) return undefined;
    return (await this.#readMaps()).data;
  }

  /**
   * What changed by the word of the bitmap; undefined if the server does not have it.
   *
   * QEMU forgets the bits behind the new end of a disk that is made smaller, and when it grows again what is there has no
   * bits: zeros that nobody calls dirty. They are holes, so every hole counts as changed; to take it costs no reading.
   */
  async readChanges(): Promise<readonly ByteRange[] | undefined> {
    const { contexts } = this.#client;
    if (this.#bitmap === undefined || !contexts.has(DIRTY_BITMAP_PREFIX + this.#bitmap) || !contexts.has(BASE_ALLOCATION)) return undefined;
    return (await this.#readMaps()).changed;
  }

  /** Whether the bitmap calls all of these bytes dirty. Its granularity must be 64 KiB or more. */
  async areDirty(offsets: readonly number[]): Promise<boolean> {
    const { dirty } = await this.#readMaps();
    return offsets.every((at) => dirty.some(({ offset, length }) => offset <= at && at < offset + length));
  }

  #readMaps(): Promise<Maps> {
    this.#maps ??= this.#collect();
    return this.#maps;
  }

  async #collect(): Promise<Maps> {
    const [data, empty, dirty] = [new NearRanges(), new NearRanges(), new NearRanges()];
    await this.#client.readExtents(({ context, flags, ...range }) => {
      if (context !== BASE_ALLOCATION) {
        if (flags !== 0) dirty.add(range);
        return;
      }
      if (flags !== 0) empty.add(range);
      if ((flags & ALLOCATION.hole) === 0 || (flags & ALLOCATION.zero) === 0) data.add(range);
    });
    const changed = mergeRanges([...empty.ranges, ...dirty.ranges].sort((a, b) => a.offset - b.offset));
    return { data: new DataMap(data.ranges, this.#client.sizeBytes), dirty: dirty.ranges, changed };
  }

  /** As in SourceView. */
  async withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return await this.#buffers.use(range.length, async (bytes) => {
      const pairs = data ?? (await this.#dataWithin(range));
      const end = (pairs.at(-2) ?? 0) + (pairs.at(-1) ?? 0); // workers take what is missing for zeros
      await this.#fill(bytes.subarray(0, end), range.offset, pairs);
      return await use({ bytes: bytes.subarray(0, end) });
    });
  }

  /** Holes are left out where the map is there already. */
  async #dataWithin({ offset, length }: ByteRange): Promise<readonly number[]> {
    const hasMap = this.#maps !== undefined && this.#client.contexts.has(BASE_ALLOCATION);
    return hasMap ? (await this.#readMaps()).data.within(offset, length) : [0, length];
  }

  async #fill(bytes: Uint8Array, offset: number, pairs: readonly number[]): Promise<void> {
    const reads: Promise<void>[] = [];
    let filled = 0;
    for (let i = 0; i < pairs.length; i += 2) {
      const [start = 0, length = 0] = [pairs[i], pairs[i + 1]];
      bytes.fill(0, filled, start);
      reads.push(this.#client.read(offset + start, bytes.subarray(start, start + length)));
      filled = start + length;
    }
    const failed = (await Promise.allSettled(reads)).find((result) => result.status === 'rejected'); // all: the buffer is lent on
    if (failed !== undefined) throw failed.reason;
  }
}

/** Ranges that come in order; those near to each other become one. */
class NearRanges {
  readonly ranges: { offset: number; length: number }[] = [];

  add({ offset, length }: ByteRange): void {
    const last = this.ranges.at(-1);
    if (last !== undefined && offset - (last.offset + last.length) < NEAR_BYTES) last.length = offset + length - last.offset;
    else this.ranges.push({ offset, length });
  }
}
