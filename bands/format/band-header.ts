/**
 * The header of a band file: which file it is, and where its chunks lie. FORMAT.md, "Band file" and "Padding".
 *
 *     0      8   magic "TBBAND", 0, version
 *     8     24   salt, random
 *     32    32   commitment
 *     64     …   table: one u32le a chunk; bits 0-30 stored length, bit 31 "raw" (not compressed)
 *
 * In version 1 the table is in clear. In version 2, which volumes with padding have, it has one word more, the stored length
 * of the padding, and is sealed.
 */
import { TimebandError } from '../errors.ts';
import { concat, equalBytes, readU32le, utf8 } from './bytes.ts';
import { CHUNK_BYTES, chunksPerBand } from './geometry.ts';
import { ID_BYTES } from './keys.ts';
import type { Padding } from './padding.ts';
import { type AeadKey, type ChunkCodec, type CipherName, KEY_BYTES, NONCE_BYTES, type Primitives, TAG_BYTES } from './primitives.ts';

const NAME = [0x54, 0x42, 0x42, 0x41, 0x4e, 0x44, 0];
export const BAND_MAGIC: Uint8Array = Uint8Array.of(...NAME, 1);
export const PADDED_BAND_MAGIC: Uint8Array = Uint8Array.of(...NAME, 2);
export const SALT_BYTES = 24;
const COMMITMENT_BYTES = 32;
const COMMITMENT_AT = 32;
export const TABLE_AT = 64;
export const CRC_BYTES = 4;
export const RAW_BIT = 0x8000_0000;
export const LENGTH_MASK = 0x7fff_ffff;
const LABEL = utf8('timeband/v1/band');
const PADDED_LABEL = utf8('timeband/v2/band');
const TABLE_LABEL = utf8('timeband/v2/band-table');
const ZERO = Uint8Array.of(0);

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
  /** How band files are padded that are written; undefined: not at all. Those that are read say it themselves. */
  readonly padding: Padding | undefined;
}

/** Bytes before the first sealed chunk of a file without padding. */
export function bandHeaderBytes(bandBytes: number): number {
  return TABLE_AT + 4 * chunksPerBand(bandBytes);
}

/** Bytes before the first sealed chunk of a file with padding: as many as any header has. */
export function paddedHeaderBytes(bandBytes: number): number {
  return bandHeaderBytes(bandBytes) + 4 + TAG_BYTES;
}

/** What a band file with padding has beside its content: header, a tag for each chunk and for the padding, checksum. */
export function fixedBytes(bandBytes: number): number {
  return paddedHeaderBytes(bandBytes) + (chunksPerBand(bandBytes) + 1) * TAG_BYTES + CRC_BYTES;
}

/** Most bytes that a band file of `bandBytes` can have. */
export function maxBandFileBytes(bandBytes: number): number {
  return fixedBytes(bandBytes) + bandBytes;
}

/** Where one chunk lies in the file. */
export interface ChunkPlace {
  /** Offset of the sealed bytes in the file. */
  readonly offset: number;
  /** Stored length, 0 for a chunk of zeros. */
  readonly length: number;
  readonly isRaw: boolean;
}

/** What the chunks of one file are sealed with. */
export interface BandSecrets {
  readonly key: Uint8Array;
  readonly baseNonce: Uint8Array;
}

/** A parsed header whose commitment was checked; opens chunks of that file only. */
export interface BandHeader extends BandSecrets {
  readonly salt: Uint8Array;
  readonly chunks: readonly ChunkPlace[];
  /** Where the sealed padding lies; undefined: a file of version 1, which has none. */
  readonly padding: Pick<ChunkPlace, 'offset' | 'length'> | undefined;
  /** Length that the file must have. */
  readonly fileBytes: number;
}

/** @param table in clear: the words of all chunks, and with padding one more */
function deriveSecrets(
  context: BandContext,
  { isPadded, salt, table }: { readonly isPadded: boolean; readonly salt: Uint8Array; readonly table: Uint8Array },
): BandSecrets & { readonly commitment: Uint8Array } {
  const info = infoOf(context, isPadded ? PADDED_LABEL : LABEL, { salt, last: table });
  const out = context.primitives.hkdfExpand(context.bandKey, info, KEY_BYTES + NONCE_BYTES + COMMITMENT_BYTES);
  return {
    key: out.subarray(0, KEY_BYTES),
    baseNonce: out.subarray(KEY_BYTES, KEY_BYTES + NONCE_BYTES),
    commitment: out.subarray(KEY_BYTES + NONCE_BYTES),
  };
}

function infoOf(context: BandContext, label: Uint8Array, { salt, last }: { readonly salt: Uint8Array; readonly last: Uint8Array }): Uint8Array {
  if (context.domainId.length !== ID_BYTES) throw new RangeError(`domainId: must be ${ID_BYTES} bytes`);
  return concat(label, ZERO, utf8(context.cipher), ZERO, salt, context.domainId, last);
}

/**
 * What the table of a padded file is sealed with. It depends on the commitment, and so on the table itself: should a band be
 * sealed again under its salt by a compressor that gives other lengths, no key seals both tables.
 */
function tableKey(context: BandContext, salt: Uint8Array, commitment: Uint8Array): AeadKey {
  const out = context.primitives.hkdfExpand(context.bandKey, infoOf(context, TABLE_LABEL, { salt, last: commitment }), KEY_BYTES + NONCE_BYTES);
  return { cipher: context.cipher, key: out.subarray(0, KEY_BYTES), nonce: out.subarray(KEY_BYTES) };
}

/** Writes the header of a band file. @param table in clear, as deriveSecrets takes it @returns what its chunks are to be sealed with */
export function writeHeader(
  context: BandContext,
  file: Uint8Array,
  { salt, table }: { readonly salt: Uint8Array; readonly table: Uint8Array },
): BandSecrets {
  const isPadded = context.padding !== undefined;
  const secrets = deriveSecrets(context, { isPadded, salt, table });
  writeStart(file, { isPadded, salt });
  file.set(secrets.commitment, COMMITMENT_AT);
  if (isPadded)
    context.primitives.seal(tableKey(context, salt, secrets.commitment), table, file.subarray(TABLE_AT, TABLE_AT + table.length + TAG_BYTES));
  else file.set(table, TABLE_AT);
  return secrets;
}

/** Writes magic and salt. */
export function writeStart(file: Uint8Array, { isPadded, salt }: { readonly isPadded: boolean; readonly salt: Uint8Array }): void {
  file.set(isPadded ? PADDED_BAND_MAGIC : BAND_MAGIC, 0);
  file.set(salt, BAND_MAGIC.length);
}

export function corrupt(message: string): TimebandError {
  return new TimebandError(message, { code: 'BAND_CORRUPT' });
}

/** The salt that a band file's first bytes state. @throws TimebandError BAND_CORRUPT if they are not of a band file */
export function readBandSalt(start: Uint8Array): Uint8Array {
  if (start.length < TABLE_AT) throw corrupt(`band file of ${start.length} bytes is shorter than its header`);
  const magic = start.subarray(0, BAND_MAGIC.length);
  if (!equalBytes(magic, BAND_MAGIC) && !equalBytes(magic, PADDED_BAND_MAGIC)) throw corrupt('not a band file of version 1 or 2 (wrong magic bytes)');
  return start.subarray(BAND_MAGIC.length, COMMITMENT_AT);
}

/** Whether the file is of version 2; its magic was checked. */
function isPaddedFile(start: Uint8Array): boolean {
  return start[BAND_MAGIC.length - 1] === PADDED_BAND_MAGIC[BAND_MAGIC.length - 1];
}

/**
 * Parses and authenticates a band file's header.
 * @param start at least paddedHeaderBytes of the file, or all of it
 * @param expected the salt and file length that the index pins
 * @throws TimebandError BAND_CORRUPT
 */
export function openBandHeader(
  context: BandContext,
  start: Uint8Array,
  expected: { readonly salt: Uint8Array; readonly fileBytes: number },
): BandHeader {
  const salt = readBandSalt(start);
  if (!equalBytes(salt, expected.salt)) {
    throw corrupt('the band file is not the one that the index names (another sealing of this band, or another band)');
  }
  const isPadded = isPaddedFile(start);
  const headerBytes = isPadded ? paddedHeaderBytes(context.bandBytes) : bandHeaderBytes(context.bandBytes);
  if (start.length < headerBytes) throw corrupt(`band file of ${start.length} bytes is shorter than its header`);
  const commitment = start.subarray(COMMITMENT_AT, TABLE_AT);
  const stored = start.subarray(TABLE_AT, headerBytes);
  const table = isPadded ? openTable(context, stored, { salt, commitment }) : stored;
  const secrets = deriveSecrets(context, { isPadded, salt, table });
  if (!equalBytes(commitment, secrets.commitment)) throw corrupt('the key or the chunk table of the band file is wrong (commitment differs)');
  const { chunks, padding, end } = placeChunks(table, headerBytes, chunksPerBand(context.bandBytes));
  const fileBytes = end + CRC_BYTES;
  if (fileBytes !== expected.fileBytes) throw corrupt(`the chunk table asks for ${fileBytes} bytes, the index for ${expected.fileBytes}`);
  return { salt: Uint8Array.from(salt), chunks, padding, key: secrets.key, baseNonce: secrets.baseNonce, fileBytes };
}

function openTable(
  context: BandContext,
  stored: Uint8Array,
  { salt, commitment }: { readonly salt: Uint8Array; readonly commitment: Uint8Array },
): Uint8Array {
  const table = new Uint8Array(stored.length - TAG_BYTES);
  if (context.primitives.open(tableKey(context, salt, commitment), stored, table)) return table;
  throw corrupt('the key is wrong, or the header of the band file is damaged (its chunk table does not authenticate)');
}

function placeChunks(
  table: Uint8Array,
  headerBytes: number,
  count: number,
): { readonly chunks: ChunkPlace[]; readonly padding: BandHeader['padding']; readonly end: number } {
  const chunks: ChunkPlace[] = [];
  let end = headerBytes;
  for (let i = 0; i < count; i++) {
    const word = readU32le(table, i * 4);
    const length = word & LENGTH_MASK;
    const isRaw = word > LENGTH_MASK;
    const isValid = length === 0 ? !isRaw : isRaw ? length === CHUNK_BYTES + TAG_BYTES : length > TAG_BYTES && length <= CHUNK_BYTES + TAG_BYTES;
    if (!isValid) throw corrupt(`chunk ${i} has an impossible stored length of ${length}`);
    chunks.push({ offset: end, length, isRaw });
    end += length;
  }
  if (table.length === count * 4) return { chunks, padding: undefined, end };
  const length = readU32le(table, count * 4);
  if (length < TAG_BYTES || length > LENGTH_MASK) throw corrupt(`the padding has an impossible stored length of ${length}`);
  return { chunks, padding: { offset: end, length }, end: end + length };
}

/** The key of chunk `number`; that of the padding is the one behind the last. */
export function chunkKey(cipher: CipherName, secrets: BandSecrets, number: number): AeadKey {
  const nonce = Uint8Array.from(secrets.baseNonce); // slice() of a Buffer would be a view
  for (let i = 0, rest = number; rest > 0; i++, rest >>>= 8) {
    const at = NONCE_BYTES - 1 - i;
    nonce[at] = (nonce[at] ?? 0) ^ (rest & 0xff);
  }
  return { cipher, key: secrets.key, nonce };
}
