/** Sessions for tests of retention: at given times, or at any, as a clock that may jump makes them. */
import fc from 'fast-check';
import { nextSessionId } from '../../../bands/format/session-id.ts';
import { type UtcOffset, utcOffsetOf } from '../../../src/retention/calendar.ts';
import { parseDuration } from '../../../src/retention/duration.ts';
import type { RetentionDecision, RetentionSession } from '../../../src/retention/policy.ts';
import { type RetentionRules, UNLIMITED } from '../../../src/retention/rules.ts';

export const ZONES: readonly string[] = [
  'utc',
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'Asia/Kathmandu',
  'America/St_Johns',
  'Pacific/Apia',
  'Pacific/Chatham',
];

const offsets = new Map(ZONES.map((zone) => [zone, utcOffsetOf(zone)]));

/** The offsets of one of `ZONES`, kept, since making a zone's takes longer than all else in a property. */
export function offsetsOf(zone: string): UtcOffset {
  return offsets.get(zone) ?? utcOffsetOf(zone);
}

/** Sessions with the ids that syncs at these times give them, in this order. */
export function sessionsAt(times: readonly (number | string)[], labels: readonly Partial<RetentionSession>[] = []): RetentionSession[] {
  let last: string | undefined;
  return times.map((time, i) => {
    const timeMs = typeof time === 'string' ? Date.parse(time) : time;
    last = nextSessionId(timeMs, last).id;
    return { id: last, timeMs, tags: [], isProtected: false, ...labels[i] };
  });
}

/** The positions of the sessions that are kept. */
export function keptOf(decisions: readonly RetentionDecision[]): number[] {
  return decisions.flatMap(({ action }, i) => (action === 'keep' ? [i] : []));
}

const MINUTE = 60_000;
const steps = fc.oneof(
  fc.integer({ min: 0, max: 1500 }),
  fc.integer({ min: 10 * MINUTE, max: 50 * MINUTE }),
  fc.constantFrom(30 * MINUTE, 60 * MINUTE, 1440 * MINUTE),
  fc.integer({ min: 60 * MINUTE, max: 3000 * MINUTE }),
  fc.integer({ min: 1440 * MINUTE, max: 60 * 1440 * MINUTE }),
  { arbitrary: fc.integer({ min: 100 * 1440 * MINUTE, max: 900 * 1440 * MINUTE }), weight: 1 },
);
const jumps = fc.integer({ min: -400 * 1440 * MINUTE, max: -1 });

/** Around days at which clocks change, with sessions that crowd and sessions years apart; some from a clock that was set back. */
export const anySessions: fc.Arbitrary<RetentionSession[]> = fc
  .record({
    startMs: fc.constantFrom('2026-10-24T20:00Z', '2026-10-31T20:00Z', '2026-03-28T12:00Z', '2026-04-04T10:00Z', '2024-12-28T00:00Z').map(Date.parse),
    steps: fc.array(
      fc.oneof({ arbitrary: steps, weight: 12 }, { arbitrary: jumps, weight: 1 }).chain((stepMs) =>
        fc.record({
          stepMs: fc.constant(stepMs),
          tags: fc.subarray(['a', 'b', 'c']).map((tags) => (tags.length === 1 ? tags : [])),
          isProtected: fc.integer({ min: 0, max: 9 }).map((dice) => dice === 0),
        }),
      ),
      { maxLength: 40 },
    ),
  })
  .map(({ startMs, steps: all }) => {
    let timeMs = startMs;
    const times = all.map(({ stepMs }) => {
      timeMs = Math.max(timeMs + stepMs, 0);
      return timeMs;
    });
    return sessionsAt(times, all);
  });

export const anyCount: fc.Arbitrary<number> = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constant(UNLIMITED));
const anyDuration = fc.constantFrom('1h', '12h', '1d', '30d', '2w', '3m', '1y', '1y6m', '1d12h').map(parseDuration);

/** At least one rule, and no limit by age. */
export const anyRules: fc.Arbitrary<RetentionRules> = fc
  .record(
    {
      keepLast: anyCount,
      keepHourly: anyCount,
      keepDaily: anyCount,
      keepWeekly: anyCount,
      keepMonthly: anyCount,
      keepYearly: anyCount,
      keepWithin: anyDuration,
      keepTags: fc.subarray(['a', 'b', 'c'], { minLength: 1 }),
      timeMachine: fc.constant(true),
    },
    { requiredKeys: [] },
  )
  .filter((rules) => Object.values(rules).some((value) => value !== 0));

/** At least one rule, and perhaps a limit by age. */
export const anyLimitedRules: fc.Arbitrary<RetentionRules> = fc
  .tuple(anyRules, fc.option(anyDuration, { nil: undefined }))
  .map(([rules, olderThan]) => ({ ...rules, olderThan }));

/** Now, in milliseconds after the newest session: often a little, sometimes before it. */
export const anyNow: fc.Arbitrary<number> = fc.oneof(
  fc.integer({ min: 0, max: 10_000 }),
  fc.integer({ min: -400 * 1440 * MINUTE, max: 400 * 1440 * MINUTE }),
);
