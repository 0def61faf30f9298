/** Decisions and their reasons, where clocks are set, run ahead or stand still. */
import test, { type ExecutionContext } from 'ava';
import { parseDuration } from '../../../src/retention/duration.ts';
import { applyRetention, type RetentionSession } from '../../../src/retention/policy.ts';
import { type RetentionRules, UNLIMITED } from '../../../src/retention/rules.ts';
import { codeOf } from '../../support/library.ts';
import { keptOf, sessionsAt } from './sessions.ts';

const NOW = Date.parse('2026-11-20T18:00Z');

function keptAt(times: readonly string[], rules: RetentionRules, timeZone = 'utc', nowMs = Date.parse(times.at(-1) ?? '')): string[] {
  const decisions = applyRetention(sessionsAt(times), rules, { timeZone, nowMs });
  return keptOf(decisions).map((i) => times[i] ?? '');
}

function reasonsOf(t: ExecutionContext, sessions: readonly RetentionSession[], rules: RetentionRules, expected: readonly string[]): void {
  const decisions = applyRetention(sessions, rules, { nowMs: NOW, timeZone: 'Europe/Berlin' });
  t.deepEqual(
    decisions.map(({ action, reasons }) => `${action}: ${reasons.join(', ')}`),
    expected,
  );
}

/** Every hour (or `hours`) from `start`, as many as asked for. */
function every(hours: number, start: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => new Date(Date.parse(start) + i * hours * 3_600_000).toISOString());
}

test('a decision names every rule that keeps a session, or for each rule why it does not', (t) => {
  const sessions = sessionsAt(
    ['2025-12-31T23:30Z', '2026-10-01T12:00Z', '2026-11-19T12:00Z', '2026-11-20T11:00Z', '2026-11-20T13:15Z', '2026-11-20T13:45Z'],
    [{}, { isProtected: true }, { tags: ['before-upgrade', 'good'] }],
  );
  reasonsOf(
    t,
    sessions,
    { keepTags: ['good', 'before-upgrade'], keepLast: 2, keepHourly: 2, keepDaily: 2, keepMonthly: 12, keepWithin: parseDuration('2h') },
    [
      'keep: monthly 2026-01',
      'keep: protected, monthly 2026-10',
      'keep: tag before-upgrade, tag good, daily 2026-11-19',
      'keep: hourly 2026-11-20T12+01:00',
      'keep: last 2, within 2h',
      'keep: newest, last 2, within 2h, hourly 2026-11-20T14+01:00, daily 2026-11-20, monthly 2026-11',
    ],
  );
  reasonsOf(
    t,
    sessions,
    { keepTags: ['bad'], keepLast: 1, keepDaily: 1, keepYearly: 3, keepWithin: parseDuration('2h'), olderThan: parseDuration('1w') },
    [
      'keep: oldest (yearly is not full yet)',
      'keep: protected',
      'keep: not older than 1w',
      'keep: not older than 1w',
      'keep: within 2h, not older than 1w',
      'keep: newest, last 1, within 2h, daily 2026-11-20, yearly 2026, not older than 1w',
    ],
  );
  reasonsOf(t, sessions, { keepTags: ['bad'], keepLast: 1, keepDaily: 1, keepWithin: parseDuration('1h') }, [
    'delete: no tag bad, not in the last 1, not within 1h, daily is full',
    'keep: protected',
    'delete: no tag bad, not in the last 1, not within 1h, daily is full',
    'delete: no tag bad, not in the last 1, not within 1h, daily 2026-11-20 has a newer session',
    'keep: within 1h',
    'keep: newest, last 1, within 1h, daily 2026-11-20',
  ]);
});

test('unlimited keeps every period, and the oldest session', (t) => {
  const sessions = sessionsAt(['2024-05-01T12:00Z', '2024-05-02T12:00Z', '2026-11-19T12:00Z', '2026-11-20T12:00Z']);
  reasonsOf(t, sessions, { keepYearly: UNLIMITED }, [
    'keep: oldest (yearly is unlimited)',
    'keep: yearly 2024',
    'delete: yearly 2026 has a newer session',
    'keep: newest, yearly 2026',
  ]);
  reasonsOf(t, sessions.slice(2), { keepLast: UNLIMITED }, ['keep: last unlimited', 'keep: newest, last unlimited']);
});

test('a rule that is exactly full does not keep the oldest session', (t) => {
  const times = ['2026-11-18T01:00Z', '2026-11-18T12:00Z', '2026-11-19T12:00Z', '2026-11-20T12:00Z'];
  t.deepEqual(keptAt(times, { keepDaily: 3 }), times.slice(1));
  t.deepEqual(keptAt(times, { keepDaily: 4 }), times);
});

test('the time machine keeps hours of a day, days of a month, and weeks', (t) => {
  const times = every(0.5, '2026-09-01T00:00Z', 48 * 80 + 20);
  const kept = keptAt(times, { timeMachine: true });
  const newest = Date.parse(times.at(-1) ?? '');
  t.is(kept.filter((time) => Date.parse(time) > newest - 24 * 3_600_000).length, 24);
  t.is(kept.filter((time) => Date.parse(time) > newest - 31 * 24 * 3_600_000 && Date.parse(time) <= newest - 24 * 3_600_000).length, 31);
  t.deepEqual(
    kept.filter((time) => Date.parse(time) < Date.parse('2026-10-18T00:00Z')).map((time) => time.slice(0, 16)),
    ['2026-09-01T00:00', '2026-09-06T23:30', '2026-09-13T23:30', '2026-09-20T23:30', '2026-09-27T23:30', '2026-10-04T23:30', '2026-10-11T23:30'],
  );
  const [oldest, hour] = applyRetention(
    sessionsAt(['2026-11-20T12:10Z', '2026-11-20T12:20Z']),
    { timeMachine: true },
    { nowMs: NOW, timeZone: 'utc' },
  );
  t.deepEqual(oldest?.reasons, ['oldest (time-machine weekly is unlimited)']);
  t.deepEqual(hour?.reasons, ['newest', 'time-machine hourly 2026-11-20T12Z', 'time-machine daily 2026-11-20', 'time-machine weekly 2026-W47']);
});

test('hours that a zone repeats are kept as two, and one that it skips is not counted', (t) => {
  t.deepEqual(keptAt(every(0.5, '2026-10-24T23:00Z', 8), { keepHourly: 3 }, 'Europe/Berlin'), [
    '2026-10-25T00:30:00.000Z',
    '2026-10-25T01:30:00.000Z',
    '2026-10-25T02:30:00.000Z',
  ]);
  t.deepEqual(keptAt(every(0.5, '2026-11-01T04:00Z', 8), { keepHourly: 3 }, 'America/New_York'), [
    '2026-11-01T05:30:00.000Z',
    '2026-11-01T06:30:00.000Z',
    '2026-11-01T07:30:00.000Z',
  ]);
  t.deepEqual(keptAt(every(0.5, '2026-03-28T23:00Z', 8), { keepHourly: 3 }, 'Europe/Berlin'), [
    '2026-03-29T00:30:00.000Z',
    '2026-03-29T01:30:00.000Z',
    '2026-03-29T02:30:00.000Z',
  ]);
  t.deepEqual(
    keptAt(every(0.25, '2026-04-04T14:00Z', 10), { keepHourly: 3 }, 'Australia/Lord_Howe'),
    ['2026-04-04T14:45:00.000Z', '2026-04-04T15:15:00.000Z', '2026-04-04T16:15:00.000Z'],
    'the repeated half hour is an hour by itself',
  );
});

test('one session is kept of a day of 23 or 25 hours, as of any', (t) => {
  for (const [start, zone] of [
    ['2026-10-23T22:00Z', 'Europe/Berlin'],
    ['2026-03-27T23:00Z', 'Europe/Berlin'],
    ['2026-10-31T04:00Z', 'America/New_York'],
    ['2026-03-07T05:00Z', 'America/New_York'],
    ['2026-10-02T13:30Z', 'Australia/Lord_Howe'],
  ] as const) {
    const times = every(0.5, start, 48 * 3);
    const days = new Intl.DateTimeFormat('en-GB', { timeZone: zone, day: 'numeric' });
    const kept = keptAt(times, { keepDaily: 3 }, zone);
    const expected = times.filter((time, i) => days.format(Date.parse(time)) !== days.format(Date.parse(times[i + 1] ?? '2026-06-30T12:00Z')));
    t.deepEqual(kept, expected.slice(-3), `${zone} ${start}`);
  }
});

test('a daily session at the same local time is within as many days, whatever the clocks did', (t) => {
  const times = ['2026-10-20T01:00Z', '2026-10-21T01:00Z', '2026-10-24T01:00Z', '2026-10-25T02:00Z', '2026-10-28T02:00Z'];
  t.deepEqual(keptAt(times, { keepWithin: parseDuration('7d') }, 'Europe/Berlin'), times.slice(1));
  t.deepEqual(keptAt(times, { keepWithin: parseDuration('7d') }, 'utc'), times.slice(2));
});

test('the zone decides to which day a session belongs', (t) => {
  const times = ['2026-11-19T22:30Z', '2026-11-19T23:30Z', '2026-11-20T12:00Z'];
  t.deepEqual(keptAt(times, { keepDaily: 2 }, 'utc'), times.slice(1));
  t.deepEqual(keptAt(times, { keepDaily: 2 }, 'Europe/Berlin'), [times[0], times[2]]);
});

test('of several sessions in the same hour, or second, the last one made is kept', (t) => {
  const times = ['2026-11-20T12:00:00.000Z', '2026-11-20T12:00:00.000Z', '2026-11-20T12:00:00.001Z', '2026-11-20T12:00:00.001Z'];
  const decisions = applyRetention(sessionsAt(times), { keepHourly: 1, keepDaily: 1 }, { nowMs: NOW, timeZone: 'utc' });
  t.deepEqual(keptOf(decisions), [3]);
});

test('sessions made after the clock was set back are newer all the same', (t) => {
  const times = ['2026-11-18T12:00Z', '2026-11-19T12:00Z', '2026-11-20T12:00Z', '2026-11-19T13:00Z', '2026-11-19T14:00Z'];
  t.deepEqual(keptAt(times, { keepDaily: 1 }), times.slice(4));
  t.deepEqual(keptAt(times, { keepDaily: 2 }), [times[2], times[4]], 'the day that was entered twice is one');
  t.deepEqual(keptAt(times, { keepLast: 2 }), times.slice(3));
  t.deepEqual(keptAt(times, { keepWithin: parseDuration('1h') }), times.slice(2), 'the session in the future is young');
  t.deepEqual(
    keptAt([...times.slice(0, 3), '1970-01-01T00:00Z'], { keepWithin: parseDuration('1y') }).length,
    4,
    'no battery in the clock: nothing is old',
  );
});

test('a session from a clock that ran ahead does not make the others old', (t) => {
  const times = ['2026-11-18T12:00Z', '2026-11-19T12:00Z', '2036-01-01T00:00Z'];
  const within: RetentionRules = { keepWithin: parseDuration('2d') };
  t.deepEqual(keptAt(times, within, 'utc', Date.parse('2026-11-20T12:00Z')), times, 'the newest one, now seen to be ahead');
  t.deepEqual(keptAt([...times, '2026-11-20T12:00Z'], within), [...times, '2026-11-20T12:00Z']);
  t.deepEqual(keptAt([...times, '2026-11-20T12:00Z'], { keepDaily: 2 }), [times[2], '2026-11-20T12:00Z'], 'its day counts as one');
  t.deepEqual(
    keptAt([...times, '2026-11-20T12:00Z', '2026-11-21T12:00Z'], { keepDaily: 2 }),
    ['2026-11-20T12:00Z', '2026-11-21T12:00Z'],
    'and passes like any',
  );
});

test('a volume that is no longer backed up loses nothing to time', (t) => {
  const times = every(24, '2026-01-01T12:00Z', 10);
  for (const rules of [{ keepWithin: parseDuration('10d') }, { timeMachine: true }])
    t.deepEqual(keptAt(times, rules, 'utc', Date.parse('2030-01-01T00:00Z')), times);
});

test('a session that is exactly as old as the limit stays; the limit counts from now', (t) => {
  const times = ['2026-11-10T11:59:59.999Z', '2026-11-10T12:00:00.000Z', '2026-11-11T12:00:00.000Z'];
  const rules: RetentionRules = { keepLast: 1, olderThan: parseDuration('10d') };
  t.deepEqual(keptAt(times, rules, 'utc', Date.parse('2026-11-20T12:00Z')), times.slice(1));
  t.deepEqual(keptAt(times, rules, 'utc', Date.parse('2026-12-20T12:00Z')), times.slice(2));
  t.deepEqual(keptAt(times, rules, 'utc', Date.parse('2026-11-01T12:00Z')), times, 'now is before all of them');
});

test('without sessions there are no decisions; without rules there is an error all the same', async (t) => {
  const options = { nowMs: NOW, timeZone: 'utc' };
  t.deepEqual(applyRetention([], { keepLast: 1 }, options), []);
  t.is(await codeOf(() => applyRetention([], {}, options)), 'USAGE');
  t.is(await codeOf(() => applyRetention(sessionsAt(['2026-11-20T12:00Z']), { olderThan: parseDuration('1d') }, options)), 'USAGE');
  t.is(await codeOf(() => applyRetention([], { keepLast: 1 }, { ...options, timeZone: 'Mars/Olympus' })), 'USAGE');
});

test('sessions newest first, given twice or without a time are a mistake of the caller', (t) => {
  const sessions = sessionsAt(['2026-11-19T12:00Z', '2026-11-20T12:00Z']);
  const [first, second] = sessions;
  if (first === undefined || second === undefined) throw new Error('two sessions');
  const apply =
    (given: readonly RetentionSession[], nowMs = NOW) =>
    () =>
      applyRetention(given, { keepLast: 1 }, { nowMs, timeZone: 'utc' });
  t.throws(apply(sessions.toReversed()), { instanceOf: RangeError });
  t.throws(apply([first, first]), { instanceOf: RangeError });
  for (const timeMs of [Number.NaN, Number.POSITIVE_INFINITY, Date.UTC(10_000, 0)]) {
    t.throws(apply([first, { ...second, timeMs }]), { instanceOf: RangeError });
    t.throws(apply(sessions, timeMs), { instanceOf: RangeError });
  }
});
