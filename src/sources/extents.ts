/**
 * Extents: which blocks of the disk a file's bytes are in. Two files that have the same block at the same offset hold the
 * same bytes there, as long as both exist and neither may write the block in place (clones share it copy-on-write).
 */
import { type ByteRange, mergeRanges } from '../../bands/format/geometry.ts';

/** fe_flags of FIEMAP, linux/fiemap.h. */
export const EXTENT_FLAGS = {
  last: 0x1,
  unknown: 0x2,
  delalloc: 0x4,
  encoded: 0x8,
  encrypted: 0x80,
  notAligned: 0x100,
  inline: 0x200,
  tail: 0x400,
  unwritten: 0x800,
  merged: 0x1000,
  shared: 0x2000,
} as const;

/** Flags that say nothing about where the bytes are. All others make an extent incomparable, those of later kernels, too. */
const HARMLESS = EXTENT_FLAGS.last | EXTENT_FLAGS.merged | EXTENT_FLAGS.shared | EXTENT_FLAGS.unwritten;

/** In bytes. */
export interface Extent {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
  readonly flags: number;
}

/** Where there is data: written extents. */
export function dataRanges(extents: readonly Extent[], sizeBytes: number): ByteRange[] {
  return extents
    .filter(({ flags, logical }) => (flags & EXTENT_FLAGS.unwritten) === 0 && logical < sizeBytes)
    .map(({ logical, length }) => ({ offset: logical, length: Math.min(length, sizeBytes - logical) }));
}

/** Whether two lists are the same. */
export function equalExtents(a: readonly Extent[], b: readonly Extent[]): boolean {
  return (
    a.length === b.length &&
    a.every((one, i) => {
      const other = b[i];
      return one.logical === other?.logical && one.physical === other.physical && one.length === other.length && one.flags === other.flags;
    })
  );
}

/** What stands at an offset: a hole, a block that can be compared (its distance from the offset), or one that cannot. */
type Place = 'hole' | 'incomparable' | number;

/**
 * The ranges below `sizeBytes` whose bytes may differ. Both lists are sorted, as file systems give them.
 * Holes and unwritten extents read as zeros and are equal; what has flags that hide the place counts as changed.
 */
export function changedRanges(before: readonly Extent[], after: readonly Extent[], sizeBytes: number): ByteRange[] {
  const changed: ByteRange[] = [];
  const a = new Cursor(before, sizeBytes);
  const b = new Cursor(after, sizeBytes);
  for (let at = 0; at < sizeBytes; ) {
    const end = Math.min(a.endAt(at), b.endAt(at));
    const [placeA, placeB] = [a.placeAt(at), b.placeAt(at)];
    if (placeA === 'incomparable' || placeB === 'incomparable' || placeA !== placeB) changed.push({ offset: at, length: end - at });
    at = end;
  }
  return mergeRanges(changed);
}

/** Walks a list of extents forward. */
class Cursor {
  readonly #extents: readonly Extent[];
  readonly #sizeBytes: number;
  #i = 0;

  constructor(extents: readonly Extent[], sizeBytes: number) {
    this.#extents = extents;
    this.#sizeBytes = sizeBytes;
  }

  /** The extent that holds `at`, or the next one. */
  #extentAt(at: number): Extent | undefined {
    for (;;) {
      const extent = this.#extents[this.#i];
      if (extent === undefined || extent.logical + extent.length > at) return extent;
      this.#i++;
    }
  }

  /** Where the stretch that `at` is in ends. */
  endAt(at: number): number {
    const extent = this.#extentAt(at);
    if (extent === undefined) return this.#sizeBytes;
    return Math.min(this.#sizeBytes, extent.logical > at ? extent.logical : extent.logical + extent.length);
  }

  placeAt(at: number): Place {
    const extent = this.#extentAt(at);
    if (extent === undefined || extent.logical > at) return 'hole';
    if ((extent.flags & ~HARMLESS) !== 0) return 'incomparable';
    return (extent.flags & EXTENT_FLAGS.unwritten) !== 0 ? 'hole' : extent.physical - extent.logical;
  }
}
