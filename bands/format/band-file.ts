/**
 * The band file. FORMAT.md, "Band file" and "Padding".
 *
 *     0         header: magic, salt, commitment, table
 *     …         sealed chunks, in order; a chunk of zeros has stored length 0 and no bytes
 *     …         version 2 only: sealed padding
 *     end-4  4  CRC-32 of all before it, u32le
 */
import { TimebandError } from '../errors.ts';
import {
  type BandContext,
  type BandHeader,
  type BandSecrets,
  bandHeaderBytes,
  CRC_BYTES,
  chunkKey,
  corrupt,
  fixedBytes,
  LENGTH_MASK,
  maxBandFileBytes,
  openBandHeader,
  paddedHeaderBytes,
  RAW_BIT,
  SALT_BYTES,
  TABLE_AT,
  writeHeader,
  writeStart,
} from './band-header.ts';
import { equalBytes, isAllZero, readU32le, writeU32le } from './bytes.ts';
import { CHUNK_BYTES, chunksPerBand } from './geometry.ts';
import { paddedContentBytes } from './padding.ts';
import { type Primitives, TAG_BYTES } from './primitives.ts';

/** A chunk is kept raw unless compression saves at least this share of it (1/16). */
const MUST_SAVE_BYTES = CHUNK_BYTES / 16;

/** Buffers that encodeBand works in; one set for each thread, reused for every band. */
export interface BandScratch {
  /** At least bandBytes + 1 KiB a chunk: compressed chunks before they are sealed. */
  readonly compressed: Uint8Array;
  /** At least maxBandFileBytes: the finished file. */
  readonly file: Uint8Array;
}

export function createBandScratch(bandBytes: number): BandScratch {
  return {
    compressed: new Uint8Array(bandBytes + chunksPerBand(bandBytes) * 1024),
    file: new Uint8Array(maxBandFileBytes(bandBytes)),
  };
}

/** A band as a file, and what of it is padding. */
export interface EncodedBand {
  /** A view of `scratch.file`, valid until that is used again. */
  readonly file: Uint8Array;
  /** Length of the sealed padding, 0 without. */
  readonly paddingBytes: number;
}

/**
 * Encodes a band into a file. `isZero` tells all-zero chunks fast; `salt` is 24 random bytes, used once (a second time only to
 * make the file of the very same band again).
 */
export function encodeBand(
  context: BandContext,
  plain: Uint8Array,
  options: { readonly salt: Uint8Array; readonly scratch: BandScratch; readonly isZero?: (chunk: Uint8Array) => boolean },
): EncodedBand {
  const { scratch, salt, isZero = isAllZero } = options;
  if (salt.length !== SALT_BYTES) throw new RangeError(`salt: must be ${SALT_BYTES} bytes`);
  const { file } = scratch;
  const { parts, words } = compressChunks(context, plain, { compressed: scratch.compressed, isZero });
  const paddingBytes = paddingBytesFor(context, words);
  const secrets = writeHeader(context, file, { salt, table: encodeTable(paddingBytes === 0 ? words : [...words, paddingBytes]) });
  let at = paddingBytes === 0 ? bandHeaderBytes(context.bandBytes) : paddedHeaderBytes(context.bandBytes);
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    if (part === undefined || part.length === 0) continue;
    const end = at + part.length + TAG_BYTES;
    context.primitives.seal(chunkKey(context.cipher, secrets, i), part, file.subarray(at, end));
    at = end;
  }
  if (paddingBytes > 0) sealPadding(context, secrets, file.subarray(at, at + paddingBytes));
  at += paddingBytes;
  writeU32le(file, at, context.primitives.crc32(file.subarray(0, at)));
  return { file: file.subarray(0, at + CRC_BYTES), paddingBytes };
}

function encodeTable(words: readonly number[]): Uint8Array {
  const table = new Uint8Array(words.length * 4);
  for (const [i, word] of words.entries()) writeU32le(table, i * 4, word);
  return table;
}

/** The stored length of the padding that makes the content a rounded one; 0: no padding. */
function paddingBytesFor({ bandBytes, padding }: BandContext, words: readonly number[]): number {
  if (padding === undefined) return 0;
  const fixed = fixedBytes(bandBytes);
  const least = paddedHeaderBytes(bandBytes) + words.reduce((sum, word) => sum + (word & LENGTH_MASK), 0) + TAG_BYTES + CRC_BYTES;
  return fixed + paddedContentBytes(least - fixed, padding) - least + TAG_BYTES;
}

/** Fills `out` with the padding of the file with these secrets. The same every time: what is hit of it can be made again. */
function sealPadding(context: BandContext, secrets: BandSecrets, out: Uint8Array): void {
  out.fill(0);
  context.primitives.seal(chunkKey(context.cipher, secrets, chunksPerBand(context.bandBytes)), out.subarray(0, -TAG_BYTES), out);
}

function compressChunks(
  context: BandContext,
  plain: Uint8Array,
  work: { compressed: Uint8Array; isZero: (chunk: Uint8Array) => boolean },
): { readonly parts: readonly Uint8Array[]; readonly words: readonly number[] } {
  if (plain.length !== context.bandBytes) throw new RangeError('plain: must be one whole band');
  const parts: Uint8Array[] = [];
  const words: number[] = [];
  let used = 0;
  for (let i = 0; i < chunksPerBand(context.bandBytes); i++) {
    const chunk = plain.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES);
    let part = chunk.subarray(0, 0);
    let word = 0;
    if (!work.isZero(chunk)) {
      const length = context.codec.compress(chunk, work.compressed.subarray(used));
      const isRaw = length > CHUNK_BYTES - MUST_SAVE_BYTES;
      part = isRaw ? chunk : work.compressed.subarray(used, used + length);
      if (!isRaw) used += length;
      word = (part.length + TAG_BYTES) | (isRaw ? RAW_BIT : 0);
    }
    words.push(word);
    parts.push(part);
  }
  return { parts, words };
}

/**
 * The same bytes with the magic, salt and checksum that a band file with this table has, and with its commitment or, if the
 * context has padding, its padding: mends what is hit in these, and nothing else. That the rest is whole, is for decodeBand
 * and the digest to say.
 * @param file a whole band file; written to
 */
export function frameBand(context: BandContext, file: Uint8Array, salt: Uint8Array): void {
  const isPadded = context.padding !== undefined;
  writeStart(file, { isPadded, salt });
  if (isPadded) restorePadding(context, file, salt);
  else writeHeader(context, file, { salt, table: file.slice(TABLE_AT, bandHeaderBytes(context.bandBytes)) });
  const end = file.length - CRC_BYTES;
  writeU32le(file, end, context.primitives.crc32(file.subarray(0, end)));
}

/** A padded file's table opens under its commitment only, so that is not to be had from the table. */
function restorePadding(context: BandContext, file: Uint8Array, salt: Uint8Array): void {
  try {
    const header = openBandHeader(context, file, { salt, fileBytes: file.length });
    if (header.padding !== undefined) sealPadding(context, header, paddingOf(header.padding, file));
  } catch (error) {
    if (!(error instanceof TimebandError)) throw error; // decodeBand says of such a header what is wrong
  }
}

function paddingOf({ offset, length }: NonNullable<BandHeader['padding']>, file: Uint8Array): Uint8Array {
  return file.subarray(offset, offset + length);
}

/**
 * Refuses a file whose padding is not what it must be. There is no data in it: that is for those to ask who vouch for the
 * file, not for those who want the band.
 * @param scratch at least as long as the padding
 * @throws TimebandError BAND_CORRUPT
 */
export function checkPadding(
  context: BandContext,
  header: BandHeader,
  { file, scratch }: { readonly file: Uint8Array; readonly scratch: Uint8Array },
): void {
  if (header.padding === undefined) return;
  const expected = scratch.subarray(0, header.padding.length);
  sealPadding(context, header, expected);
  if (!equalBytes(paddingOf(header.padding, file), expected))
    throw corrupt('the padding of the band file is damaged; its data is not touched by that');
}

/**
 * Opens one chunk into `out` (128 KiB, always filled completely).
 * @param sealed the chunk's stored bytes, `chunks[chunkNumber].length` of them
 * @throws TimebandError BAND_CORRUPT; `out` then holds nothing of use
 */
export function openChunk(
  context: BandContext,
  header: BandHeader,
  chunk: { readonly number: number; readonly sealed: Uint8Array; readonly scratch: Uint8Array; readonly out: Uint8Array },
): void {
  const place = header.chunks[chunk.number];
  if (place === undefined) throw new RangeError('chunk.number: beyond the band');
  if (chunk.out.length !== CHUNK_BYTES || chunk.scratch.length < CHUNK_BYTES) throw new RangeError('chunk: out and scratch must be one chunk');
  if (chunk.sealed.length !== place.length)
    throw corrupt(`chunk ${chunk.number} has ${chunk.sealed.length} bytes where the table says ${place.length}`);
  if (place.length === 0) {
    chunk.out.fill(0);
    return;
  }
  const target = place.isRaw ? chunk.out : chunk.scratch.subarray(0, place.length - TAG_BYTES);
  if (!context.primitives.open(chunkKey(context.cipher, header, chunk.number), chunk.sealed, target)) {
    throw corrupt(`chunk ${chunk.number} of the band is damaged (it does not authenticate)`);
  }
  if (!place.isRaw && !context.codec.decompress(target, chunk.out)) {
    throw corrupt(`chunk ${chunk.number} of the band does not decompress to ${CHUNK_BYTES} bytes`);
  }
}

/**
 * Opens a whole band file into `out` (one band). Padding is not looked at.
 * @throws TimebandError BAND_CORRUPT
 */
export function decodeBand(
  context: BandContext,
  file: Uint8Array,
  options: { readonly salt: Uint8Array; readonly scratch: Uint8Array; readonly out: Uint8Array },
): void {
  if (options.out.length !== context.bandBytes) throw new RangeError('out: must be one whole band');
  const header = openBandHeader(context, file, { salt: options.salt, fileBytes: file.length });
  for (const [number, place] of header.chunks.entries()) {
    openChunk(context, header, {
      number,
      sealed: file.subarray(place.offset, place.offset + place.length),
      scratch: options.scratch,
      out: options.out.subarray(number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES),
    });
  }
}

/** Whether the file's last four bytes are the CRC-32 of the rest: bit rot shows without any key. */
export function hasValidCrc(primitives: Pick<Primitives, 'crc32'>, file: Uint8Array): boolean {
  const end = file.length - CRC_BYTES;
  return end >= 0 && readU32le(file, end) === primitives.crc32(file.subarray(0, end));
}
