/**
 * Where the data of a sparse file is, so that holes are not read. Only file systems whose answer can be trusted while
 * data is still in memory are asked (ZFS, NFS and FUSE have returned holes for dirty data); elsewhere everything is read.
 */
import { statfs } from 'node:fs/promises';
import { type ByteRange, mergeRanges } from '../../bands/format/geometry.ts';
import { DIRECT_BLOCK_BYTES } from '../../bands/workers/buffers.ts';
import { dataRanges } from './extents.ts';
import { type Libc, loadLibc } from './libc.ts';
import { readExtents } from './read-extents.ts';

/** Local file systems whose word is good, by their statfs magic numbers: ext2/3/4, XFS, btrfs, tmpfs, f2fs. */
export const TRUSTED_FILE_SYSTEMS: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0xf2f52010]);
/** A hole smaller than this costs more to leave out than to read. */
const MIN_HOLE_BYTES = 65_536;

/** The ranges of a file that hold data, sorted and apart; all else reads as zeros. */
export class DataMap {
  readonly ranges: readonly ByteRange[];
  readonly dataBytes: number;

  /** @param sizeBytes of the volume, where the last range ends at the latest */
  constructor(ranges: readonly ByteRange[], sizeBytes: number) {
    this.ranges = joinSmallHoles(ranges.map((range) => roundOut(range, sizeBytes)));
    this.dataBytes = this.ranges.reduce((sum, range) => sum + range.length, 0);
  }

  /** The data in [offset, offset + length) as pairs (start within that range, length). */
  within(offset: number, length: number): number[] {
    const pairs: number[] = [];
    const end = offset + length;
    for (let i = this.#firstEndingAfter(offset); i < this.ranges.length; i++) {
      const range = this.ranges[i];
      if (range === undefined || range.offset >= end) break;
      const start = Math.max(range.offset, offset);
      pairs.push(start - offset, Math.min(range.offset + range.length, end) - start);
    }
    return pairs;
  }

  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const range = this.ranges[middle];
      if (range !== undefined && range.offset + range.length <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** To whole blocks, as reads past the page cache need them; what is added reads as zeros. */
function roundOut({ offset, length }: ByteRange, sizeBytes: number): ByteRange {
  const start = offset - (offset % DIRECT_BLOCK_BYTES);
  const end = Math.ceil((offset + length) / DIRECT_BLOCK_BYTES) * DIRECT_BLOCK_BYTES;
  return { offset: start, length: Math.min(end, sizeBytes) - start };
}

function joinSmallHoles(ranges: readonly ByteRange[]): ByteRange[] {
  const joined: { offset: number; length: number }[] = [];
  for (const range of mergeRanges(ranges)) {
    const last = joined.at(-1);
    if (last !== undefined && range.offset - (last.offset + last.length) < MIN_HOLE_BYTES) last.length = range.offset + range.length - last.offset;
    else joined.push({ ...range });
  }
  return joined;
}

/** The data map of a regular file, or undefined where none can be trusted or had. */
export async function readDataMap(file: { readonly fd: number; readonly path: string; readonly sizeBytes: number }): Promise<DataMap | undefined> {
  const { type } = await statfs(file.path);
  if (!TRUSTED_FILE_SYSTEMS.has(type)) return undefined;
  const libc = loadLibc();
  const ranges = libc === undefined ? await extentRanges(file) : seekRanges(libc, file.fd, file.sizeBytes);
  return ranges === undefined ? undefined : new DataMap(ranges, file.sizeBytes);
}

function seekRanges(libc: Libc, fd: number, sizeBytes: number): ByteRange[] | undefined {
  const ranges: ByteRange[] = [];
  try {
    for (let offset = 0; offset < sizeBytes; ) {
      const start = libc.seekData(fd, offset);
      if (start === undefined || start >= sizeBytes) break;
      const end = Math.min(libc.seekHole(fd, start) ?? sizeBytes, sizeBytes);
      ranges.push({ offset: start, length: end - start });
      offset = end;
    }
    return ranges;
  } catch {
    return undefined; // EINVAL: this file cannot tell, so all of it is read
  }
}

async function extentRanges(file: { readonly fd: number; readonly path: string; readonly sizeBytes: number }): Promise<ByteRange[] | undefined> {
  const extents = await readExtents(file);
  return extents === undefined ? undefined : dataRanges(extents, file.sizeBytes);
}
