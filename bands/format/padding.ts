/**
 * Rounding of stored lengths, so that a band file's size does not show how well its band compresses. FORMAT.md, "Padding".
 *
 * What is rounded is the content: what a band file's length has beyond its fixed parts. A band that cannot be compressed has
 * as much of it as the band has bytes, and no rounded length is larger than that.
 */
import { TimebandError } from '../errors.ts';
import type { Fields } from './json-record.ts';

/** `padme`, or the size in bytes of which each content is a multiple. */
export type Padding = 'padme' | number;

/** No content is shorter: below a block of the file system, padding costs nothing. The smallest bucket, too. */
const MIN_CONTENT_BYTES = 4096;

/** The field `pad` of records about bands of `bandBytes`: absent without padding. @throws TimebandError RECORD_CORRUPT */
export function readPadding(fields: Fields, bandBytes: number): Padding | undefined {
  if (!fields.has('pad')) return undefined;
  const pad = fields.textOrInteger('pad');
  if (isPadding(pad, bandBytes)) return pad;
  throw new TimebandError(`field "pad": bands of ${bandBytes} bytes cannot be padded by ${JSON.stringify(pad)}`, { code: 'RECORD_CORRUPT' });
}

/** Whether bands of `bandBytes` can be padded so: `padme`, or a power of two from 4096 to the band's size. */
export function isPadding(value: string | number, bandBytes: number): value is Padding {
  if (typeof value === 'string') return value === 'padme';
  return Number.isInteger(value) && value >= MIN_CONTENT_BYTES && value <= bandBytes && Number.isInteger(Math.log2(value));
}

/** @throws TimebandError USAGE */
export function checkPaddingChoice(padding: Padding, bandBytes: number): void {
  if (isPadding(padding, bandBytes)) return;
  throw new TimebandError(
    `bands of ${bandBytes} bytes cannot be padded to multiples of ${padding} bytes: use "padme", or a power of two from 4K to the size of a band.`,
    { code: 'USAGE' },
  );
}

/** The length that a content of `bytes` (less than nothing for a band that is almost zeros) is padded to, in bytes. */
export function paddedContentBytes(bytes: number, padding: Padding): number {
  const content = Math.max(bytes, MIN_CONTENT_BYTES);
  const step = padding === 'padme' ? padmeStep(content) : padding;
  return Math.ceil(content / step) * step;
}

/**
 * Of what a length is made a multiple: the exponent E of the length is kept with as many more bits as E has, so at most a
 * sixteenth is added, and less to a longer one (Nikitin, Barman, Lueks, Underwood, Hubaux, Ford, "Reducing Metadata Leakage from
 * Encrypted Files and Communication with PURBs", 2019, section 4.3).
 */
function padmeStep(bytes: number): number {
  const exponent = bitLength(bytes) - 1;
  return 2 ** (exponent - bitLength(exponent));
}

function bitLength(value: number): number {
  return 32 - Math.clz32(value);
}
