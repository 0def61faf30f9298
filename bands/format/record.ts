/**
 * Sealed metadata records (volume, damaged list, manifest, labels, bitmap, index page, overlay). FORMAT.md, "Sealed record".
 *
 *     0    8   magic "TBRECD", 0, version 1
 *     8   24   nonce, random
 *     32   …   XChaCha20-Poly1305 ciphertext ‖ tag (16)
 *     end-4 4  CRC-32 of all before it, u32le
 *
 * Associated data: label ‖ 0 ‖ kind ‖ 0 ‖ volume id (16) ‖ place. The place of a manifest, labels or bitmap is its
 * session id; of an index page, which sessions share, its number (u64be); of a volume record, a damaged list and an overlay's
 * record, nothing.
 */
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { TimebandError } from '../errors.ts';
import { CRC_BYTES } from './band-header.ts';
import { concat, equalBytes, readU32le, u64be, utf8, writeU32le } from './bytes.ts';
import { crc32 } from './crc32.ts';
import { ID_BYTES } from './keys.ts';
import { TAG_BYTES } from './primitives.ts';

export const RECORD_MAGIC: Uint8Array = Uint8Array.of(0x54, 0x42, 0x52, 0x45, 0x43, 0x44, 0, 1);
export const RECORD_NONCE_BYTES = 24;
const BODY_AT = RECORD_MAGIC.length + RECORD_NONCE_BYTES;
/** Bytes that sealing adds to a record. */
export const RECORD_OVERHEAD_BYTES: number = BODY_AT + TAG_BYTES + CRC_BYTES;
const LABEL = utf8('timeband/v1/record');

export type RecordKind = 'volume' | 'damaged' | 'manifest' | 'labels' | 'bitmap' | 'page' | 'overlay';

/** What a record is and where it belongs; bound into its seal. */
export interface RecordPlace {
  readonly kind: RecordKind;
  readonly volumeId: Uint8Array;
  /** Session id, page number, or undefined for what belongs to the volume. */
  readonly at?: string | number;
}

function associatedData({ kind, volumeId, at }: RecordPlace): Uint8Array {
  if (volumeId.length !== ID_BYTES) throw new RangeError(`volumeId: must be ${ID_BYTES} bytes`);
  const zero = Uint8Array.of(0);
  const place = at === undefined ? new Uint8Array(0) : typeof at === 'number' ? u64be(at) : utf8(at);
  return concat(LABEL, zero, utf8(kind), zero, volumeId, place);
}

/** Seals a record. `nonce` is 24 random bytes, never used twice with this key. */
export function sealRecord(key: Uint8Array, place: RecordPlace, content: { readonly nonce: Uint8Array; readonly plain: Uint8Array }): Uint8Array {
  const sealed = xchacha20poly1305(key, content.nonce, associatedData(place)).encrypt(content.plain);
  return frameRecord(concat(RECORD_MAGIC, content.nonce, sealed, new Uint8Array(CRC_BYTES)));
}

/**
 * The same bytes with the magic and the checksum that a record has: mends what is hit in these, and nothing else. That the rest
 * is whole, is for openRecord to say.
 * @param file at least RECORD_OVERHEAD_BYTES; written to and returned
 */
export function frameRecord(file: Uint8Array): Uint8Array {
  const end = file.length - CRC_BYTES;
  file.set(RECORD_MAGIC, 0);
  writeU32le(file, end, crc32(file.subarray(0, end)));
  return file;
}

/** The nonce of a record that may be damaged; undefined if the file ends before it. Not proven in any way. */
export function readRecordNonce(file: Uint8Array): Uint8Array | undefined {
  return file.length < BODY_AT ? undefined : file.slice(RECORD_MAGIC.length, BODY_AT);
}

function corrupt(place: RecordPlace, message: string): TimebandError {
  return new TimebandError(`${place.kind} record: ${message}`, { code: 'RECORD_CORRUPT' });
}

/**
 * Opens a record.
 * @throws TimebandError RECORD_CORRUPT for bit rot, another kind, volume or place, or another key
 */
export function openRecord(key: Uint8Array, place: RecordPlace, file: Uint8Array): Uint8Array {
  if (file.length < RECORD_OVERHEAD_BYTES) throw corrupt(place, `${file.length} bytes are too short (truncated?)`);
  if (!equalBytes(file.subarray(0, RECORD_MAGIC.length), RECORD_MAGIC)) throw corrupt(place, 'not a sealed record of version 1 (wrong magic bytes)');
  const end = file.length - CRC_BYTES;
  if (readU32le(file, end) !== crc32(file.subarray(0, end))) throw corrupt(place, 'damaged (checksum differs)');
  try {
    return xchacha20poly1305(key, file.subarray(RECORD_MAGIC.length, BODY_AT), associatedData(place)).decrypt(file.subarray(BODY_AT, end));
  } catch (cause) {
    throw new TimebandError(`${place.kind} record: does not authenticate (altered, moved from another place, or of another key)`, {
      code: 'RECORD_CORRUPT',
      cause,
    });
  }
}
