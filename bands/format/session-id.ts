/** Session ids: UTC time with milliseconds, `20261121T100000.123Z`. They sort by age. FORMAT.md, "Session". */

import { TimebandError } from '../errors.ts';

export const SESSION_ID_PATTERN: RegExp = /^\d{8}T\d{6}\.\d{3}Z$/;

export function formatSessionId(timeMs: number): string {
  return new Date(timeMs).toISOString().replace(/[-:]/g, '');
}

/** Milliseconds since 1970, or undefined if `id` is not a session id. */
export function parseSessionId(id: string): number | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d{3}Z)$/.exec(id);
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, rest] = parts;
  const time = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${rest}`);
  return Number.isNaN(time) || formatSessionId(time) !== id ? undefined : time;
}

/** The last time that an id can hold. */
const MAX_TIME_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/**
 * The id of a session made at `nowMs`: the time, but always after the base (a clock set back gives base + 1 ms).
 * @throws TimebandError UNSUPPORTED if no later id can be: the base is of the last millisecond of 9999
 */
export function nextSessionId(nowMs: number, baseId: string | undefined): { readonly id: string; readonly isClockBehind: boolean } {
  const baseMs = baseId === undefined ? Number.NEGATIVE_INFINITY : parseSessionId(baseId);
  if (baseMs === undefined) throw new RangeError('baseId: not a session id');
  if (baseMs === MAX_TIME_MS) {
    throw new TimebandError(
      `no session can be named after ${baseId}, the end of the year 9999. Delete that session ("timeband delete --even-newest"), and sync again.`,
      { code: 'UNSUPPORTED' },
    );
  }
  const wholeMs = Math.floor(nowMs);
  const isClockBehind = wholeMs <= baseMs;
  const timeMs = isClockBehind ? baseMs + 1 : wholeMs;
  if (timeMs > MAX_TIME_MS) throw new RangeError('nowMs: beyond the year 9999');
  return { id: formatSessionId(timeMs), isClockBehind };
}
