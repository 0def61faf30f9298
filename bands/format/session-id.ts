/** Session ids: UTC time with milliseconds, `20261121T100000.123Z`. They sort by age. FORMAT.md, "Session". */

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

/** The id of a session made at `nowMs`: the time, but always after the base (a clock set back gives base + 1 ms). */
export function nextSessionId(nowMs: number, baseId: string | undefined): { readonly id: string; readonly isClockBehind: boolean } {
  const baseMs = baseId === undefined ? undefined : parseSessionId(baseId);
  if (baseMs === undefined || nowMs > baseMs) return { id: formatSessionId(nowMs), isClockBehind: false };
  return { id: formatSessionId(baseMs + 1), isClockBehind: true };
}
