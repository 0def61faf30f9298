/** A list of changed byte ranges that the user brings from a tracker of their own. */
import { readFile } from 'node:fs/promises';
import { ioError, TimebandError } from '../../bands/errors.ts';
import type { ByteRange } from '../../bands/format/geometry.ts';

/** Reads lines of `OFFSET LENGTH` in bytes; empty lines and lines that begin with "#" are passed over. @throws TimebandError USAGE */
export async function readChangedRanges(file: string): Promise<ByteRange[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw ioError(error, 'read the changed ranges', file);
  }
  return parseChangedRanges(text, file);
}

export function parseChangedRanges(text: string, file: string): ByteRange[] {
  const ranges: ByteRange[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const [offset = Number.NaN, length = Number.NaN] = /^\d+\s+\d+$/.test(trimmed) ? trimmed.split(/\s+/).map(Number) : [];
    if (!Number.isSafeInteger(offset + length))
      throw new TimebandError(`${file}, line ${i + 1}: "${trimmed}" is not "OFFSET LENGTH" in bytes.`, { code: 'USAGE', path: file });
    ranges.push({ offset, length });
  }
  return ranges;
}
