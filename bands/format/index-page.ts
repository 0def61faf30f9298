/**
 * The band index: what each band of a session is. FORMAT.md, "Index page". An entry is 80 bytes:
 *
 *     0   24  salt of the band file
 *     24   4  length of the band file, u32le
 *     28   4  flags, u32le: bit 0 set
 *     32  16  fingerprint (GMAC) of the plain band, padding included
 *     48  32  SHA-256 of the same
 *
 * All zeros: the band is all zeros and has no file. A page is the entries of 512 bands (fewer at the end).
 */
import { TimebandError } from '../errors.ts';
import { bandHeaderBytes, CRC_BYTES, maxBandFileBytes, SALT_BYTES } from './band-header.ts';
import { isAllZero, readU32le, writeU32le } from './bytes.ts';

export const ENTRY_BYTES = 80;
const LENGTH_AT = 24;
const FLAGS_AT = 28;
const FINGERPRINT_AT = 32;
const DIGEST_AT = 48;
const FLAG_STORED = 1;

/** What the index says of a band that has a file. */
export interface StoredBand {
  /** 24 bytes; pins one sealing of the band. */
  readonly salt: Uint8Array;
  /** Length of the band file. */
  readonly fileBytes: number;
  /** GMAC of the plain band under the volume's fingerprint key, 16 bytes: four times as fast to compute as the digest. */
  readonly fingerprint: Uint8Array;
  /** SHA-256 of the plain band, 32 bytes. */
  readonly digest: Uint8Array;
}

/** Entries of consecutive bands, in their encoded form. */
export type PageEntries = Uint8Array;

export function entryCount(entries: PageEntries): number {
  return entries.length / ENTRY_BYTES;
}

/** Whether band `i` of these entries is all zeros. An entry beyond them is zero: a shorter volume had no such band. */
export function isZeroEntry(entries: PageEntries, i: number): boolean {
  return (i + 1) * ENTRY_BYTES > entries.length || readU32le(entries, i * ENTRY_BYTES + FLAGS_AT) === 0;
}

/** The band file of entry `i`, or undefined for a zero band. The byte strings are views. */
export function readEntry(entries: PageEntries, i: number): StoredBand | undefined {
  if (isZeroEntry(entries, i)) return undefined;
  const entry = entries.subarray(i * ENTRY_BYTES, (i + 1) * ENTRY_BYTES);
  return {
    salt: entry.subarray(0, SALT_BYTES),
    fileBytes: readU32le(entry, LENGTH_AT),
    fingerprint: entry.subarray(FINGERPRINT_AT, DIGEST_AT),
    digest: entry.subarray(DIGEST_AT),
  };
}

/** Writes entry `i`; undefined writes a zero band. */
export function writeEntry(entries: PageEntries, i: number, band: StoredBand | undefined): void {
  const entry = entries.subarray(i * ENTRY_BYTES, (i + 1) * ENTRY_BYTES);
  entry.fill(0);
  if (band === undefined) return;
  if (band.salt.length !== SALT_BYTES || band.fingerprint.length !== DIGEST_AT - FINGERPRINT_AT || band.digest.length !== ENTRY_BYTES - DIGEST_AT) {
    throw new RangeError('band: salt, fingerprint or digest of another length');
  }
  if (!Number.isInteger(band.fileBytes) || band.fileBytes < 0 || band.fileBytes > 0xffff_ffff) throw new RangeError('band.fileBytes: not 32 bits');
  entry.set(band.salt, 0);
  writeU32le(entry, LENGTH_AT, band.fileBytes);
  writeU32le(entry, FLAGS_AT, FLAG_STORED);
  entry.set(band.fingerprint, FINGERPRINT_AT);
  entry.set(band.digest, DIGEST_AT);
}

/** Whether entry `i` stands for the same bytes in both, whatever files hold them. */
export function isSameContent(a: PageEntries, b: PageEntries, i: number): boolean {
  const isZero = isZeroEntry(a, i);
  if (isZero !== isZeroEntry(b, i)) return false;
  if (isZero) return true;
  for (let at = i * ENTRY_BYTES + DIGEST_AT; at < (i + 1) * ENTRY_BYTES; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** Whether entry `i` names the very same file in both. */
export function isSameEntry(a: PageEntries, b: PageEntries, i: number): boolean {
  if ((i + 1) * ENTRY_BYTES > Math.min(a.length, b.length)) return false;
  for (let at = i * ENTRY_BYTES; at < (i + 1) * ENTRY_BYTES; at++) if (a[at] !== b[at]) return false;
  return true;
}

/**
 * Checks a page's plaintext; an index page is its own encoding.
 * @param shape entries that the page must have, and the volume's band size
 * @throws TimebandError RECORD_CORRUPT
 */
export function decodePage(plain: Uint8Array, shape: { readonly entries: number; readonly bandBytes: number }): PageEntries {
  if (plain.length !== shape.entries * ENTRY_BYTES) {
    throw new TimebandError(`index page: ${plain.length} bytes where ${shape.entries} entries need ${shape.entries * ENTRY_BYTES}`, {
      code: 'RECORD_CORRUPT',
    });
  }
  const least = bandHeaderBytes(shape.bandBytes) + CRC_BYTES;
  const most = maxBandFileBytes(shape.bandBytes);
  for (let i = 0; i < shape.entries; i++) {
    const flags = readU32le(plain, i * ENTRY_BYTES + FLAGS_AT);
    const fileBytes = readU32le(plain, i * ENTRY_BYTES + LENGTH_AT);
    const isValid =
      flags === FLAG_STORED
        ? fileBytes >= least && fileBytes <= most
        : flags === 0 && isAllZero(plain.subarray(i * ENTRY_BYTES, (i + 1) * ENTRY_BYTES));
    if (!isValid) throw new TimebandError(`index page: entry ${i} is malformed`, { code: 'RECORD_CORRUPT' });
  }
  return plain;
}
