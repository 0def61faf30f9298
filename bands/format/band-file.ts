/**
 * The band file. FORMAT.md, "Band file".
 *
 *     0      8   magic "TBBAND", 0, version 1
 *     8     24   salt, random
 *     32    32   commitment
 *     64    4n   table: one u32le a chunk; bits 0-30 stored length, bit 31 "raw" (not compressed)
 *     64+4n  …   sealed chunks, in order; a chunk of zeros has stored length 0 and no bytes
 *     end-4  4   CRC-32 of all before it, u32le
 */
import { TimebandError } from '../errors.ts';
import { equalBytes, isAllZero, readU32le, utf8, writeU32le } from './bytes.ts';
import { CHUNK_BYTES, chunksPerBand } from './geometry.ts';
import { ID_BYTES } from './keys.ts';
import { type AeadKey, type ChunkCodec, type CipherName, KEY_BYTES, NONCE_BYTES, type Primitives, TAG_BYTES } from './primitives.ts';

export const BAND_MAGIC: Uint8Array = Uint8Array.of(0x54, 0x42, 0x42, 0x41, 0x4e, 0x44, 0, 1);
export const SALT_BYTES = 24;
const COMMITMENT_BYTES = 32;
const TABLE_AT = 64;
export const CRC_BYTES = 4;
const RAW_BIT = 0x8000_0000;
const LENGTH_MASK = 0x7fff_ffff;
/** A chunk is kept raw unless compression saves at least this share of it (1/16). */
const MUST_SAVE_BYTES = CHUNK_BYTES / 16;
const LABEL = utf8('timeband/v1/band');

/** Bytes before the first sealed chunk. */
export function bandHeaderBytes(bandBytes: number): number {
  return TABLE_AT + 4 * chunksPerBand(bandBytes);
}

/** Most bytes that a band file of `bandBytes` can have. */
export function maxBandFileBytes(bandBytes: number): number {
  return bandHeaderBytes(bandBytes) + chunksPerBand(bandBytes) * (CHUNK_BYTES + TAG_BYTES) + CRC_BYTES;
}

/** What sealing and opening the bands of one volume needs. */
export interface BandContext {
  readonly primitives: Primitives;
  readonly codec: ChunkCodec;
  readonly cipher: CipherName;
  /** Size of a band, in bytes. */
  readonly bandBytes: number;
  /** 32 bytes. */
  readonly bandKey: Uint8Array;
  /** The key domain's id, 16 bytes. */
  readonly domainId: Uint8Array;
}

/** Where one chunk lies in the file. */
export interface ChunkPlace {
  /** Offset of the sealed bytes in the file. */
  readonly offset: number;
  /** Stored length, 0 for a chunk of zeros. */
  readonly length: number;
  readonly isRaw: boolean;
}

/** A parsed header whose commitment was checked; opens chunks of that file only. */
export interface BandHeader {
  readonly salt: Uint8Array;
  readonly chunks: readonly ChunkPlace[];
  readonly key: Uint8Array;
  readonly baseNonce: Uint8Array;
  /** Length that the file must have. */
  readonly fileBytes: number;
}

interface BandSecrets {
  readonly key: Uint8Array;
  readonly baseNonce: Uint8Array;
  readonly commitment: Uint8Array;
}

function deriveSecrets(context: BandContext, salt: Uint8Array, table: Uint8Array): BandSecrets {
  if (context.domainId.length !== ID_BYTES) throw new RangeError(`domainId: must be ${ID_BYTES} bytes`);
  const cipher = utf8(context.cipher);
  const info = new Uint8Array(LABEL.length + 1 + cipher.length + 1 + SALT_BYTES + context.domainId.length + table.length);
  let at = 0;
  for (const part of [LABEL, Uint8Array.of(0), cipher, Uint8Array.of(0), salt, context.domainId, table]) {
    info.set(part, at);
    at += part.length;
  }
  const out = context.primitives.hkdfExpand(context.bandKey, info, KEY_BYTES + NONCE_BYTES + COMMITMENT_BYTES);
  return {
    key: out.subarray(0, KEY_BYTES),
    baseNonce: out.subarray(KEY_BYTES, KEY_BYTES + NONCE_BYTES),
    commitment: out.subarray(KEY_BYTES + NONCE_BYTES),
  };
}

function chunkKey(cipher: CipherName, secrets: { key: Uint8Array; baseNonce: Uint8Array }, chunkNumber: number): AeadKey {
  const nonce = Uint8Array.from(secrets.baseNonce); // slice() of a Buffer would be a view
  for (let i = 0, rest = chunkNumber; rest > 0; i++, rest >>>= 8) {
    const at = NONCE_BYTES - 1 - i;
    nonce[at] = (nonce[at] ?? 0) ^ (rest & 0xff);
  }
  return { cipher, key: secrets.key, nonce };
}

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

/**
 * Encodes a band into a file. `isZero` tells all-zero chunks fast; `salt` is 24 random bytes, used once (a second time only to
 * make the file of the very same band again).
 * @returns a view of `scratch.file`, valid until the next call
 */
export function encodeBand(
  context: BandContext,
  plain: Uint8Array,
  options: { readonly salt: Uint8Array; readonly scratch: BandScratch; readonly isZero?: (chunk: Uint8Array) => boolean },
): Uint8Array {
  const { scratch, salt, isZero = isAllZero } = options;
  if (salt.length !== SALT_BYTES) throw new RangeError(`salt: must be ${SALT_BYTES} bytes`);
  const { file } = scratch;
  const headerBytes = bandHeaderBytes(context.bandBytes);
  const table = file.subarray(TABLE_AT, headerBytes);
  const parts = compressChunks(context, plain, { compressed: scratch.compressed, table, isZero });
  const secrets = deriveSecrets(context, salt, table);
  file.set(BAND_MAGIC, 0);
  file.set(salt, BAND_MAGIC.length);
  file.set(secrets.commitment, BAND_MAGIC.length + SALT_BYTES);
  let at = headerBytes;
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    if (part === undefined || part.length === 0) continue;
    const end = at + part.length + TAG_BYTES;
    context.primitives.seal(chunkKey(context.cipher, secrets, i), part, file.subarray(at, end));
    at = end;
  }
  writeU32le(file, at, context.primitives.crc32(file.subarray(0, at)));
  return file.subarray(0, at + CRC_BYTES);
}

function compressChunks(
  context: BandContext,
  plain: Uint8Array,
  work: { compressed: Uint8Array; table: Uint8Array; isZero: (chunk: Uint8Array) => boolean },
): Uint8Array[] {
  if (plain.length !== context.bandBytes) throw new RangeError('plain: must be one whole band');
  const parts: Uint8Array[] = [];
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
    writeU32le(work.table, i * 4, word);
    parts.push(part);
  }
  return parts;
}

/**
 * The same bytes with the magic, salt, commitment and checksum that a band file with this table has: mends what is hit in
 * these, and nothing else. That the chunks and the table are whole, is for decodeBand and the digest to say.
 * @param file a whole band file; written to
 */
export function frameBand(context: BandContext, file: Uint8Array, salt: Uint8Array): void {
  const secrets = deriveSecrets(context, salt, file.subarray(TABLE_AT, bandHeaderBytes(context.bandBytes)));
  file.set(BAND_MAGIC, 0);
  file.set(salt, BAND_MAGIC.length);
  file.set(secrets.commitment, BAND_MAGIC.length + SALT_BYTES);
  const end = file.length - CRC_BYTES;
  writeU32le(file, end, context.primitives.crc32(file.subarray(0, end)));
}

function corrupt(message: string): TimebandError {
  return new TimebandError(message, { code: 'BAND_CORRUPT' });
}

/** The salt that a band file's first bytes state. @throws TimebandError BAND_CORRUPT if they are not of a band file */
export function readBandSalt(start: Uint8Array): Uint8Array {
  if (start.length < TABLE_AT) throw corrupt(`band file of ${start.length} bytes is shorter than its header`);
  if (!equalBytes(start.subarray(0, BAND_MAGIC.length), BAND_MAGIC)) throw corrupt('not a band file of version 1 (wrong magic bytes)');
  return start.subarray(BAND_MAGIC.length, BAND_MAGIC.length + SALT_BYTES);
}

/**
 * Parses and authenticates a band file's header.
 * @param start at least bandHeaderBytes of the file
 * @param expected the salt and file length that the index pins
 * @throws TimebandError BAND_CORRUPT
 */
export function openBandHeader(
  context: BandContext,
  start: Uint8Array,
  expected: { readonly salt: Uint8Array; readonly fileBytes: number },
): BandHeader {
  const headerBytes = bandHeaderBytes(context.bandBytes);
  const salt = readBandSalt(start);
  if (!equalBytes(salt, expected.salt)) {
    throw corrupt('the band file is not the one that the index names (another sealing of this band, or another band)');
  }
  if (start.length < headerBytes) throw corrupt(`band file of ${start.length} bytes is shorter than its header`);
  const table = start.subarray(TABLE_AT, headerBytes);
  const secrets = deriveSecrets(context, salt, table);
  const commitment = start.subarray(BAND_MAGIC.length + SALT_BYTES, TABLE_AT);
  if (!equalBytes(commitment, secrets.commitment)) throw corrupt('the key or the chunk table of the band file is wrong (commitment differs)');
  const { chunks, end } = placeChunks(table, headerBytes);
  const fileBytes = end + CRC_BYTES;
  if (fileBytes !== expected.fileBytes) throw corrupt(`the chunk table asks for ${fileBytes} bytes, the index for ${expected.fileBytes}`);
  return { salt: Uint8Array.from(salt), chunks, key: secrets.key, baseNonce: secrets.baseNonce, fileBytes };
}

function placeChunks(table: Uint8Array, headerBytes: number): { chunks: ChunkPlace[]; end: number } {
  const chunks: ChunkPlace[] = [];
  let end = headerBytes;
  for (let at = 0; at < table.length; at += 4) {
    const word = readU32le(table, at);
    const length = word & LENGTH_MASK;
    const isRaw = word > LENGTH_MASK;
    const isValid = length === 0 ? !isRaw : isRaw ? length === CHUNK_BYTES + TAG_BYTES : length > TAG_BYTES && length <= CHUNK_BYTES + TAG_BYTES;
    if (!isValid) throw corrupt(`chunk ${at / 4} has an impossible stored length of ${length}`);
    chunks.push({ offset: end, length, isRaw });
    end += length;
  }
  return { chunks, end };
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
 * Opens a whole band file into `out` (one band).
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
