/**
 * Recognising who reads in order. Behind one open file there may be several readers (a loop device has one for all who read its
 * file system), each going forward or backward, and the kernel sends several requests of each at once.
 */
import type { ReadCursor, ReadRun } from './image.ts';

/** Requests of one reader may overtake each other by this much. */
const REORDER_BYTES = 2_097_152;
/** Readers of one open file that are told apart. */
const MAX_RUNS = 8;

/** The run that a request goes on with, or a new one in the place of the one longest unused; moved on by the request. */
export function followRun({ runs }: ReadCursor, offset: number, length: number): ReadRun {
  const at = runs.findIndex((one) => isAround(one.nextOffset, offset) || isAround(one.lastOffset, offset));
  const known = runs[at];
  if (known === undefined) {
    const run: ReadRun = {
      nextOffset: offset + length,
      lastOffset: offset,
      isBackward: false,
      bytes: offset === 0 ? length : 0,
      bandIndex: undefined,
    };
    runs.unshift(run);
    if (runs.length > MAX_RUNS) runs.pop();
    return run;
  }
  if (at > 0) runs.unshift(...runs.splice(at, 1));
  known.nextOffset = isAround(known.nextOffset, offset) ? Math.max(known.nextOffset, offset + length) : offset + length;
  known.isBackward = offset < known.lastOffset;
  known.lastOffset = offset;
  known.bytes += length;
  return known;
}

function isAround(place: number, offset: number): boolean {
  return Math.abs(offset - place) <= REORDER_BYTES;
}
