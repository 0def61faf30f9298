/**
 * Sizes and the one range walker. FORMAT.md, "Geometry".
 * A volume is cut into bands, a band into chunks of 128 KiB, an index into pages of 512 entries.
 */
import { TimebandError } from '../errors.ts';

/** The unit of compression, sealing and random reading, in bytes. */
export const CHUNK_BYTES = 131_072;
/** Default size of a band, in bytes. */
export const DEFAULT_BAND_BYTES = 2_097_152;
export const MIN_BAND_BYTES = 262_144;
export const MAX_BAND_BYTES = 67_108_864;
/** A volume's size is a multiple of this. */
export const SECTOR_BYTES = 512;
/** Index entries (bands) in one index page. */
export const ENTRIES_PER_PAGE = 512;

/** Whether `bytes` is a band size: a power of two from 256 KiB to 64 MiB. */
export function isBandBytes(bytes: number): boolean {
  return Number.isInteger(bytes) && bytes >= MIN_BAND_BYTES && bytes <= MAX_BAND_BYTES && Number.isInteger(Math.log2(bytes));
}

/** Chunks in one band of `bandBytes`. */
export function chunksPerBand(bandBytes: number): number {
  return bandBytes / CHUNK_BYTES;
}

/** Bands in a volume of `sizeBytes`; the last may be partly beyond the end and is zero-padded. */
export function bandCountOf(sizeBytes: number, bandBytes: number): number {
  return Math.ceil(sizeBytes / bandBytes);
}

/** Index pages of a volume of `bandCount` bands. */
export function pageCountOf(bandCount: number): number {
  return Math.ceil(bandCount / ENTRIES_PER_PAGE);
}

/** Entries in page `pageNumber` of a volume of `bandCount` bands. */
export function entriesInPage(pageNumber: number, bandCount: number): number {
  return Math.max(0, Math.min(ENTRIES_PER_PAGE, bandCount - pageNumber * ENTRIES_PER_PAGE));
}

/** Bytes of the volume that lie in band `bandIndex` (less than a band only at the end). */
export function bandLengthOf(bandIndex: number, sizeBytes: number, bandBytes: number): number {
  return Math.max(0, Math.min(bandBytes, sizeBytes - bandIndex * bandBytes));
}

/** A run of bytes of a volume. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** The part of one band that a byte range touches. */
export interface BandRange {
  readonly bandIndex: number;
  /** Where the part starts within the band. */
  readonly start: number;
  readonly length: number;
  /** Where the part starts within the byte range. */
  readonly position: number;
}

/** Walks the bands that `[offset, offset + length)` touches, in order. Read, restore and mounts all use it. */
export function* bandRanges(offset: number, length: number, bandBytes: number): Generator<BandRange> {
  for (let position = 0; position < length; ) {
    const at = offset + position;
    const start = at % bandBytes;
    const part = Math.min(bandBytes - start, length - position);
    yield { bandIndex: (at - start) / bandBytes, start, length: part, position };
    position += part;
  }
}

/** Joins ranges that touch; `ranges` must be sorted by offset. */
export function mergeRanges(ranges: Iterable<ByteRange>): ByteRange[] {
  const merged: { offset: number; length: number }[] = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last !== undefined && range.offset <= last.offset + last.length) {
      last.length = Math.max(last.length, range.offset + range.length - last.offset);
    } else if (range.length > 0) merged.push({ ...range });
  }
  return merged;
}

/**
 * Refuses a size that no volume can have.
 * @throws TimebandError SOURCE_INVALID
 */
export function checkVolumeSize(sizeBytes: number, what: string): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % SECTOR_BYTES !== 0) {
    throw new TimebandError(
      `${what} is ${sizeBytes} bytes long; a disk image must be a positive multiple of ${SECTOR_BYTES} bytes. ` +
        `Pad it (truncate -s %${SECTOR_BYTES}) or name another file.`,
      { code: 'SOURCE_INVALID', path: what },
    );
  }
}
