/** The rules of retention as the user gives them. Pure. */
import { TimebandError } from '../../bands/errors.ts';
import { checkTag } from '../../bands/format/labels.ts';
import type { Duration } from './duration.ts';

/** A count without an end: `--keep-monthly unlimited`. */
export const UNLIMITED: number = Number.POSITIVE_INFINITY;

/** What to keep. A session is kept if any rule keeps it. Counts are whole numbers or `UNLIMITED`; 0 is as if not given. */
export interface RetentionRules {
  /** The newest N sessions. */
  readonly keepLast?: number | undefined;
  /** The newest session of each of the newest N hours (days, …) that have sessions; if they are fewer, the oldest session, too. */
  readonly keepHourly?: number | undefined;
  readonly keepDaily?: number | undefined;
  /** ISO weeks, Monday to Sunday. */
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
  /** All sessions at most this much older than the newest one (than now, if the newest one is in the future). */
  readonly keepWithin?: Duration | undefined;
  /** All sessions with any of these tags. */
  readonly keepTags?: readonly string[] | undefined;
  /** The newest of each hour of the last 24 hours, of each day of the last month (both back from where `keepWithin` counts), of each week. */
  readonly timeMachine?: boolean | undefined;
  /** Not a rule but a limit to all of them: only sessions that are older than this now may be deleted. */
  readonly olderThan?: Duration | undefined;
}

/** The counting rules of the calendar, finest first. */
export const CALENDAR_RULES = [
  { option: 'keepHourly', name: 'hourly', period: 'hour' },
  { option: 'keepDaily', name: 'daily', period: 'day' },
  { option: 'keepWeekly', name: 'weekly', period: 'week' },
  { option: 'keepMonthly', name: 'monthly', period: 'month' },
  { option: 'keepYearly', name: 'yearly', period: 'year' },
] as const;

const COUNTS = ['keepLast', ...CALENDAR_RULES.map(({ option }) => option)] as const;

/**
 * Parses the count of a rule: `7`, or `unlimited` or `-1`; `0` switches a rule off.
 * @throws TimebandError USAGE
 */
export function parseCount(text: string): number {
  if (text === 'unlimited' || text === '-1') return UNLIMITED;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new TimebandError(`"${text}" is not a count; write a number such as 7, or "unlimited".`, { code: 'USAGE' });
}

/**
 * Refuses rules that would keep nothing.
 * @throws TimebandError USAGE
 * @throws RangeError for a count that `parseCount` does not give
 */
export function checkRules(rules: RetentionRules): void {
  for (const option of COUNTS) {
    const count = rules[option] ?? 0;
    if (count !== UNLIMITED && !(Number.isSafeInteger(count) && count >= 0)) throw new RangeError(`${option}: ${count} is not a count`);
  }
  for (const tag of rules.keepTags ?? []) checkTag(tag);
  const isAnyGiven = COUNTS.some((option) => (rules[option] ?? 0) > 0) || rules.keepWithin !== undefined || rules.timeMachine === true;
  if (isAnyGiven || (rules.keepTags ?? []).length > 0) return;
  const advice =
    rules.olderThan === undefined
      ? 'give at least one, such as --keep-daily 7, --keep-within 30d or --time-machine'
      : `--older-than only limits what rules may delete; to delete by age alone, give --keep-within ${rules.olderThan.text}`;
  throw new TimebandError(`No rule says which sessions to keep: ${advice}.`, { code: 'USAGE' });
}
