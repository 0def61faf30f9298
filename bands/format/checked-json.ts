/**
 * The checksum of small JSON files that nothing else pins (key slots, exported keys): the last field, 8 hex digits,
 * CRC-32 of the text that JSON.stringify(…, null, 2) gives of the object without it. It finds bit rot and typing errors, no forgery.
 */
import { TimebandError } from '../errors.ts';
import { utf8 } from './bytes.ts';
import { crc32 } from './crc32.ts';
import type { Fields } from './json-record.ts';

const DIGITS = 8;

/** The object with its checksum behind. */
export function withChecksum<T extends object>(body: T): T & { readonly checksum: string } {
  const checksum = crc32(utf8(JSON.stringify(body, null, 2))).toString(16);
  return { ...body, checksum: checksum.padStart(DIGITS, '0') };
}

/** @param json what withChecksum gives of the value that was read from `fields` @throws TimebandError RECORD_CORRUPT */
export function requireChecksum(what: string, fields: Fields, json: { readonly checksum: string }): void {
  if (fields.string('checksum') !== json.checksum) throw new TimebandError(`${what}: is damaged (its checksum differs)`, { code: 'RECORD_CORRUPT' });
}
