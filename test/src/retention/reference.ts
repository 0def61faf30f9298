/** The calendar rules as one would explain them: slow, and with none of the program's code. */
import type { Period } from '../../../src/retention/calendar.ts';
import type { RetentionSession } from '../../../src/retention/policy.ts';

/** The positions that "the newest session of each of the newest `count` periods, and the oldest if they are fewer" means. */
export function keptByCalendar(sessions: readonly RetentionSession[], period: Period, count: number, zone: string): Set<number> {
  const groups: { name: string; positions: number[] }[] = [];
  for (let i = sessions.length - 1; i >= 0; i--) {
    const name = wallClockName(period, sessions[i]?.timeMs ?? 0, zone);
    const group = groups.find((one) => one.name === name);
    if (group === undefined) groups.push({ name, positions: [i] });
    else group.positions.push(i);
  }
  const kept = new Set(groups.slice(0, count).map(({ positions }) => Math.max(...positions)));
  if (groups.length < count && sessions.length > 0) kept.add(0);
  return kept;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** What a clock with a calendar beside it shows, without what is finer than the period. A week is named after its Monday. */
function wallClockName(period: Period, timeMs: number, zone: string): string {
  const { year, month, day, hour, zoneName } = wallClock(timeMs, zone);
  if (period === 'year') return year;
  if (period === 'month') return `${year} ${month}`;
  if (period === 'day') return `${year} ${month} ${day}`;
  if (period === 'hour') return `${year} ${month} ${day} ${hour} ${zoneName}`;
  const monday = new Date(`${year}-${month}-${day}T12:00:00Z`);
  while (monday.getUTCDay() !== 1) monday.setUTCDate(monday.getUTCDate() - 1);
  return monday.toDateString();
}

function wallClock(timeMs: number, zone: string): { year: string; month: string; day: string; hour: string; zoneName: string } {
  const two = '2-digit';
  const format =
    formats.get(zone) ??
    new Intl.DateTimeFormat('en-GB', {
      timeZone: zone,
      year: 'numeric',
      month: two,
      day: two,
      hour: two,
      hourCycle: 'h23',
      timeZoneName: 'shortOffset',
    });
  formats.set(zone, format);
  const parts = format.formatToParts(timeMs);
  const part = (type: string): string => parts.find((one) => one.type === type)?.value ?? '';
  return { year: part('year'), month: part('month'), day: part('day'), hour: part('hour'), zoneName: part('timeZoneName') };
}
