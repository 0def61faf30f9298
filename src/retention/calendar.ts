/**
 * Local time, for retention: a zone's offset at any instant, and the hour, day, ISO week, month or year an instant lies in.
 * Pure, but for the zone 'local', which is the system's.
 */
import { TimebandError } from '../../bands/errors.ts';

/** What is to be added to UTC to get local time, in milliseconds, at instant `timeMs`. */
export type UtcOffset = (timeMs: number) => number;

/** `local` (the system's zone), `utc`, an IANA name such as `Europe/Berlin`, or a function. */
export type TimeZone = string | UtcOffset;

export type Period = 'hour' | 'day' | 'week' | 'month' | 'year';

/** An instant, with the zone's offset at that instant. */
export interface Moment {
  readonly timeMs: number;
  readonly offsetMs: number;
}

export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;

/** @throws TimebandError USAGE for a zone that does not exist */
export function utcOffsetOf(zone: TimeZone): UtcOffset {
  if (typeof zone === 'function') return zone;
  if (zone === 'utc') return () => 0;
  if (zone === 'local') return (timeMs) => -60_000 * new Date(timeMs).getTimezoneOffset(); // as all times are printed
  const format = offsetFormat(zone);
  return (timeMs) => parseOffset(format.format(timeMs));
}

function offsetFormat(zone: string): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' });
  } catch (cause) {
    throw new TimebandError(`"${zone}" is not a time zone; write local, utc or a name such as Europe/Berlin.`, { code: 'USAGE', cause });
  }
}

/** The offset at the end of `11/20/2026, GMT+01:00`; whole seconds in times before zones, nothing behind GMT itself. */
function parseOffset(text: string): number {
  const [, sign, hours, minutes, seconds] = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(text) ?? [];
  const ms = (Number(hours ?? 0) * 3600 + Number(minutes ?? 0) * 60 + Number(seconds ?? 0)) * 1000;
  return sign === '-' ? -ms : ms;
}

export function momentOf(timeMs: number, utcOffset: UtcOffset): Moment {
  return { timeMs, offsetMs: utcOffset(timeMs) };
}

/**
 * The name of the period that a moment lies in: `2026-11-20T14+01:00`, `2026-11-20`, `2026-W47`, `2026-11`, `2026`.
 * An hour's name has the offset, so that the two hours which one clock face shows when summer ends are two hours.
 */
export function periodOf(period: Period, { timeMs, offsetMs }: Moment): string {
  const wallMs = timeMs + offsetMs;
  if (period === 'week') return isoWeek(wallMs);
  const text = new Date(wallMs).toISOString(); // years beyond 9999 have a sign and six digits
  const yearLength = text.indexOf('-', 1);
  if (period === 'year') return text.slice(0, yearLength);
  if (period === 'month') return text.slice(0, yearLength + 3);
  if (period === 'day') return text.slice(0, yearLength + 6);
  return text.slice(0, yearLength + 9) + offsetName(offsetMs);
}

/** ISO 8601: weeks begin on Monday, and belong to the year that their Thursday lies in. */
function isoWeek(wallMs: number): string {
  const day = Math.floor(wallMs / DAY_MS);
  const weekday = (((day + 3) % 7) + 7) % 7; // 0 is Monday; 1970 began on a Thursday
  const thursday = new Date((day - weekday + 3) * DAY_MS);
  const newYear = new Date(thursday);
  newYear.setUTCMonth(0, 1);
  const week = Math.floor((thursday.getTime() - newYear.getTime()) / DAY_MS / 7) + 1;
  return `${periodOf('year', { timeMs: thursday.getTime(), offsetMs: 0 })}-W${String(week).padStart(2, '0')}`;
}

/** `+01:00`, `-03:30`, `Z`. */
function offsetName(offsetMs: number): string {
  if (offsetMs === 0) return 'Z';
  const time = new Date(Math.abs(offsetMs)).toISOString().slice(11, 19);
  return (offsetMs < 0 ? '-' : '+') + (time.endsWith(':00') ? time.slice(0, 5) : time);
}

/** The instant at which clocks show `wallMs` (read as UTC): the earlier one where two do, one before the gap where none does. */
export function instantOf(wallMs: number, utcOffset: UtcOffset): number {
  const candidates = [wallMs - utcOffset(wallMs - DAY_MS), wallMs - utcOffset(wallMs + DAY_MS)];
  const exact = candidates.filter((timeMs) => timeMs + utcOffset(timeMs) === wallMs);
  return Math.min(...(exact.length > 0 ? exact : candidates));
}
