/** Spans of time as people write them (`30d`, `12h`, `1y6m`), and the instant that lies one back. Pure. */
import { TimebandError } from '../../bands/errors.ts';
import { HOUR_MS, instantOf, type UtcOffset } from './calendar.ts';

/** A span in the calendar: months first, then days, then hours. Made by `parseDuration`. */
export interface Duration {
  /** As it was written, for messages. */
  readonly text: string;
  /** Years are twelve months. */
  readonly months: number;
  /** Weeks are seven days. */
  readonly days: number;
  readonly hours: number;
}

/** Five digits at most: 99,999 years back is still a date that exists. */
const DURATION = /^(?:(\d{1,5})y)?(?:(\d{1,5})m)?(?:(\d{1,5})w)?(?:(\d{1,5})d)?(?:(\d{1,5})h)?$/;

/**
 * Parses `12h`, `30d`, `2w`, `3m` (months), `1y`, or several, the largest first: `1y6m`.
 * @throws TimebandError USAGE for anything else, and for nothing at all (`0d`)
 */
export function parseDuration(text: string): Duration {
  const [years = 0, months = 0, weeks = 0, days = 0, hours = 0] = (DURATION.exec(text)?.slice(1) ?? []).map((digits) => Number(digits ?? 0));
  if (years + months + weeks + days + hours === 0) {
    const advice = 'write 12h, 30d, 2w, 3m (months), 1y, or several, the largest first, as in 1y6m';
    throw new TimebandError(`"${text}" is not a length of time; ${advice}.`, { code: 'USAGE' });
  }
  return { text, months: 12 * years + months, days: 7 * weeks + days, hours };
}

/**
 * The instant that lies `duration` before `timeMs`. Months and days are the calendar's: `1d` before 3:00 is 3:00, also where
 * that is 23 or 25 hours. `1m` before the 29th to 31st of March is the end of February: so a later time never reaches further
 * back than an earlier one, but for what clocks repeat. Hours are 60 minutes each.
 */
export function stepBack(timeMs: number, { months, days, hours }: Duration, utcOffset: UtcOffset): number {
  if (months === 0 && days === 0) return timeMs - hours * HOUR_MS;
  const wall = new Date(timeMs + utcOffset(timeMs));
  const dayOfMonth = wall.getUTCDate();
  wall.setUTCMonth(wall.getUTCMonth() - months);
  const isPastTheEnd = wall.getUTCDate() !== dayOfMonth; // in the month behind the one that is meant
  if (isPastTheEnd) wall.setUTCDate(1);
  if (isPastTheEnd) wall.setUTCHours(0, 0, 0, 0);
  wall.setUTCDate(wall.getUTCDate() - days);
  return instantOf(wall.getTime(), utcOffset) - hours * HOUR_MS;
}
