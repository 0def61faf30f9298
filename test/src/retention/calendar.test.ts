/** Zones, periods and steps back: where clocks are set, where offsets are odd, where years and weeks end. */
import test from 'ava';
import fc from 'fast-check';
import { instantOf, momentOf, type Period, periodOf, utcOffsetOf } from '../../../src/retention/calendar.ts';
import { parseDuration, stepBack } from '../../../src/retention/duration.ts';
import { codeOf } from '../../support/library.ts';
import { ZONES } from './sessions.ts';

const MINUTE = 60_000;

function nameAt(period: Period, time: string, zone: string): string {
  return periodOf(period, momentOf(Date.parse(time), utcOffsetOf(zone)));
}

/** An hour name for each half hour from `start`. */
function halfHours(zone: string, start: string, count: number): string[] {
  const startMs = Date.parse(start);
  return Array.from({ length: count }, (_, i) => nameAt('hour', new Date(startMs + i * 30 * MINUTE).toISOString(), zone));
}

test('offsets are those of the zone at the instant', (t) => {
  const minutesAt = (zone: string, time: string): number => utcOffsetOf(zone)(Date.parse(time)) / MINUTE;
  t.is(minutesAt('utc', '2026-07-01T00:00Z'), 0);
  t.is(minutesAt('Europe/Berlin', '2026-07-01T00:00Z'), 120);
  t.is(minutesAt('Europe/Berlin', '2026-12-01T00:00Z'), 60);
  t.is(minutesAt('Europe/London', '2026-12-01T00:00Z'), 0);
  t.is(minutesAt('America/St_Johns', '2026-12-01T00:00Z'), -210);
  t.is(minutesAt('Asia/Kathmandu', '2026-12-01T00:00Z'), 345);
  t.is(minutesAt('Pacific/Kiritimati', '2026-12-01T00:00Z'), 840);
  t.is(minutesAt('Australia/Lord_Howe', '2026-12-01T00:00Z'), 660);
  t.is(minutesAt('Australia/Lord_Howe', '2026-07-01T00:00Z'), 630);
  t.is(minutesAt('Africa/Monrovia', '1970-01-01T00:00Z'), -44.5);
});

test("'local' is the system's zone, and a function is taken as it is", (t) => {
  const before = process.env['TZ'];
  t.teardown(() => {
    if (before === undefined) delete process.env['TZ'];
    else process.env['TZ'] = before;
  });
  const times = Array.from({ length: 500 }, (_, i) => Date.UTC(2026, 0, 1) + i * 17 * 60 * MINUTE);
  for (const zone of ZONES.slice(1)) {
    process.env['TZ'] = zone;
    t.deepEqual(times.map(utcOffsetOf('local')), times.map(utcOffsetOf(zone)), zone);
  }
  t.is(utcOffsetOf(() => 7 * MINUTE)(0), 7 * MINUTE);
});

for (const zone of ['Europe/Atlantis', '', 'CET-1CEST', 'Local']) {
  test(`"${zone}" is refused as a zone`, async (t) => t.is(await codeOf(() => utcOffsetOf(zone)), 'USAGE'));
}

test('an hour that Berlin skips does not exist, and one that it repeats is two', (t) => {
  t.deepEqual(halfHours('Europe/Berlin', '2026-03-29T00:30Z', 3), ['2026-03-29T01+01:00', '2026-03-29T03+02:00', '2026-03-29T03+02:00']);
  t.deepEqual(halfHours('Europe/Berlin', '2026-10-24T23:30Z', 6), [
    '2026-10-25T01+02:00',
    '2026-10-25T02+02:00',
    '2026-10-25T02+02:00',
    '2026-10-25T02+01:00',
    '2026-10-25T02+01:00',
    '2026-10-25T03+01:00',
  ]);
});

test('New York changes its clocks on days of its own', (t) => {
  t.deepEqual(halfHours('America/New_York', '2026-03-08T06:30Z', 2), ['2026-03-08T01-05:00', '2026-03-08T03-04:00']);
  t.deepEqual(halfHours('America/New_York', '2026-11-01T05:30Z', 2), ['2026-11-01T01-04:00', '2026-11-01T01-05:00']);
});

test('Lord Howe sets its clocks by half an hour: one hour of 30 minutes, and one half hour twice', (t) => {
  t.deepEqual(halfHours('Australia/Lord_Howe', '2026-10-03T15:00Z', 3), ['2026-10-04T01+10:30', '2026-10-04T02+11:00', '2026-10-04T03+11:00']);
  t.deepEqual(halfHours('Australia/Lord_Howe', '2026-04-04T14:00Z', 5), [
    '2026-04-05T01+11:00',
    '2026-04-05T01+11:00',
    '2026-04-05T01+10:30',
    '2026-04-05T02+10:30',
    '2026-04-05T02+10:30',
  ]);
});

test('days have 23, 24 or 25 hours, and one that a zone skips has none', (t) => {
  const hoursOf = (day: string, zone: string): number => {
    const startMs = Date.parse(`${day}T00:00Z`) - 24 * 60 * MINUTE;
    return (
      Array.from({ length: 144 }, (_, i) => new Date(startMs + i * 30 * MINUTE).toISOString()).filter((time) => nameAt('day', time, zone) === day)
        .length / 2
    );
  };
  t.is(hoursOf('2026-03-29', 'Europe/Berlin'), 23);
  t.is(hoursOf('2026-10-25', 'Europe/Berlin'), 25);
  t.is(hoursOf('2026-10-26', 'Europe/Berlin'), 24);
  t.is(hoursOf('2026-04-05', 'Australia/Lord_Howe'), 24.5);
  t.is(hoursOf('2011-12-30', 'Pacific/Apia'), 0);
});

test('midnight and new year are those of the zone', (t) => {
  t.is(nameAt('day', '2026-11-20T23:30Z', 'Europe/Berlin'), '2026-11-21');
  t.is(nameAt('day', '2026-11-20T18:14Z', 'Asia/Kathmandu'), '2026-11-20');
  t.is(nameAt('day', '2026-11-20T18:15Z', 'Asia/Kathmandu'), '2026-11-21');
  t.is(nameAt('year', '2026-12-31T23:30Z', 'Europe/Berlin'), '2027');
  t.is(nameAt('month', '2027-01-01T04:59Z', 'America/New_York'), '2026-12');
  t.is(nameAt('hour', '2026-11-20T14:59:59.999Z', 'utc'), '2026-11-20T14Z');
});

for (const [day, week] of [
  ['2024-12-29', '2024-W52'],
  ['2024-12-30', '2025-W01'],
  ['2025-12-28', '2025-W52'],
  ['2025-12-29', '2026-W01'],
  ['2026-01-04', '2026-W01'],
  ['2026-01-05', '2026-W02'],
  ['2026-11-20', '2026-W47'],
  ['2026-11-22', '2026-W47'],
  ['2026-11-23', '2026-W48'],
  ['2026-12-31', '2026-W53'],
  ['2027-01-03', '2026-W53'],
  ['2027-01-04', '2027-W01'],
  ['2010-01-03', '2009-W53'],
  ['1970-01-01', '1970-W01'],
  ['1969-12-28', '1969-W52'],
] as const) {
  test(`${day} is in week ${week}`, (t) => {
    t.is(nameAt('week', `${day}T00:00Z`, 'utc'), week);
    t.is(nameAt('week', `${day}T23:59:59.999Z`, 'utc'), week);
  });
}

test('an instant is found again from what the clock shows, the earlier one where it shows that twice', (t) => {
  fc.assert(
    fc.property(fc.constantFrom(...ZONES), fc.integer({ min: Date.UTC(1990), max: Date.UTC(2040) }), (zone, timeMs) => {
      const utcOffset = utcOffsetOf(zone);
      const wallMs = timeMs + utcOffset(timeMs);
      const found = instantOf(wallMs, utcOffset);
      return found <= timeMs && found + utcOffset(found) === wallMs && timeMs - found <= 60 * MINUTE;
    }),
    { numRuns: 2000 },
  );
  t.is(instantOf(Date.UTC(2026, 9, 25, 2, 30), utcOffsetOf('Europe/Berlin')), Date.parse('2026-10-25T00:30Z'));
  t.is(instantOf(Date.UTC(2026, 2, 29, 2, 30), utcOffsetOf('Europe/Berlin')), Date.parse('2026-03-29T00:30Z'), 'there is no 2:30: 1:30');
});

for (const [from, duration, zone, to] of [
  ['2026-11-20T12:00Z', '12h', 'utc', '2026-11-20T00:00Z'],
  ['2026-11-20T12:00Z', '30d', 'utc', '2026-10-21T12:00Z'],
  ['2026-11-20T12:00Z', '2w', 'utc', '2026-11-06T12:00Z'],
  ['2026-05-28T12:00Z', '3m', 'utc', '2026-02-28T12:00Z'],
  ['2026-05-29T12:00Z', '3m', 'utc', '2026-03-01T00:00Z'],
  ['2026-05-31T12:00Z', '3m', 'utc', '2026-03-01T00:00Z'],
  ['2024-02-29T12:00Z', '1y', 'utc', '2023-03-01T00:00Z'],
  ['2026-01-15T12:00Z', '1m', 'utc', '2025-12-15T12:00Z'],
  ['2026-11-20T12:00Z', '1y6m', 'utc', '2025-05-20T12:00Z'],
  ['2026-03-31T12:00Z', '1m1d', 'utc', '2026-02-28T00:00Z'],
  ['2026-10-26T02:00Z', '1d', 'Europe/Berlin', '2026-10-25T02:00Z'],
  ['2026-10-25T02:00Z', '1d', 'Europe/Berlin', '2026-10-24T01:00Z'],
  ['2026-03-29T12:00Z', '1d', 'Europe/Berlin', '2026-03-28T13:00Z'],
  ['2026-03-29T12:00Z', '24h', 'Europe/Berlin', '2026-03-28T12:00Z'],
  ['2026-10-26T01:30Z', '1d', 'Europe/Berlin', '2026-10-25T00:30Z'],
  ['2026-04-29T00:30Z', '1m', 'Europe/Berlin', '2026-03-29T00:30Z'],
  ['2026-11-30T02:00Z', '1m', 'America/New_York', '2026-10-30T01:00Z'],
  ['2026-10-05T01:00Z', '1d', 'Australia/Lord_Howe', '2026-10-04T01:00Z'],
  ['2026-10-04T01:00Z', '1d', 'Australia/Lord_Howe', '2026-10-03T01:30Z'],
] as const) {
  test(`${duration} before ${from} is ${to} (${zone})`, (t) => {
    t.is(new Date(stepBack(Date.parse(from), parseDuration(duration), utcOffsetOf(zone))).toISOString(), new Date(to).toISOString());
  });
}

test('in UTC, a later time never reaches further back', (t) => {
  const times = fc.integer({ min: Date.UTC(2023), max: Date.UTC(2029) });
  const durations = fc.constantFrom('1m', '2m', '1y', '1m1d', '3m2w', '30d', '1d12h').map(parseDuration);
  fc.assert(
    fc.property(times, fc.integer({ min: 0, max: 4 * 1440 * MINUTE }), durations, (timeMs, laterMs, duration) => {
      const utcOffset = utcOffsetOf('utc');
      return stepBack(timeMs, duration, utcOffset) <= stepBack(timeMs + laterMs, duration, utcOffset);
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('the longest length of time reaches back to an instant that exists', (t) => {
  const longest = parseDuration('99999y99999m99999w99999d99999h');
  for (const zone of ['local', ...ZONES]) t.true(stepBack(Date.UTC(2026), longest, utcOffsetOf(zone)) < Date.UTC(-90_000), zone);
});
