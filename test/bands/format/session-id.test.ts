import test from 'ava';
import fc from 'fast-check';
import { formatSessionId, nextSessionId, parseSessionId, SESSION_ID_PATTERN } from '../../../bands/format/session-id.ts';
import { readVectors } from './vectors.ts';

const { vectors, faults } = readVectors<{ vectors: { timeMs: number; id: string }[]; faults: string[] }>('session-id');
/** Every time that an id can hold: the years 0 to 9999. */
const YEAR_0 = Date.parse('0000-01-01T00:00:00.000Z');
const times = fc.integer({ min: YEAR_0, max: Date.parse('9999-12-31T23:59:59.999Z') });

test('the ids of the vectors come out and lead back to their times', (t) => {
  for (const { timeMs, id } of vectors) {
    t.is(formatSessionId(timeMs), id);
    t.is(parseSessionId(id), timeMs);
  }
});

test('a text of another shape, or of a time that does not exist, is no id', (t) => {
  for (const text of faults) t.is(parseSessionId(text), undefined, text);
});

test('any time comes back from its id', (t) => {
  fc.assert(fc.property(times, (timeMs) => SESSION_ID_PATTERN.test(formatSessionId(timeMs)) && parseSessionId(formatSessionId(timeMs)) === timeMs));
  t.pass();
});

test('ids sort as texts the way their times sort', (t) => {
  fc.assert(fc.property(times, times, (a, b) => a < b === formatSessionId(a) < formatSessionId(b)));
  fc.assert(fc.property(times, fc.integer({ min: 1, max: 2000 }), (a, step) => a - step < YEAR_0 || formatSessionId(a - step) < formatSessionId(a)));
  t.pass();
});

test('any text is an id that encodes to itself, or none', (t) => {
  const digits = fc.stringMatching(/^\d{8}T\d{6}\.\d{3}Z$/);
  const isSound = (text: string): boolean => {
    const timeMs = parseSessionId(text);
    return timeMs === undefined || formatSessionId(timeMs) === text;
  };
  fc.assert(fc.property(fc.oneof(digits, fc.string()), isSound), { numRuns: 1000 });
  t.pass();
});

test('the next id is the time now when that is after the base', (t) => {
  const now = Date.UTC(2026, 10, 21, 10, 0, 0, 123);
  t.deepEqual(nextSessionId(now, undefined), { id: '20261121T100000.123Z', isClockBehind: false });
  t.deepEqual(nextSessionId(now, formatSessionId(now - 1)), { id: '20261121T100000.123Z', isClockBehind: false });
});

test('a clock set back, or a second session in one millisecond, gives the base’s time and one millisecond', (t) => {
  const now = Date.UTC(2026, 10, 21, 10, 0, 0, 123);
  t.deepEqual(nextSessionId(now, formatSessionId(now)), { id: '20261121T100000.124Z', isClockBehind: true });
  t.deepEqual(nextSessionId(now - 86_400_000, formatSessionId(now)), { id: '20261121T100000.124Z', isClockBehind: true });
  t.is(nextSessionId(0, '20261231T235959.999Z').id, '20270101T000000.000Z');
});

test('the next id always sorts after the base', (t) => {
  const before9999 = times.filter((timeMs) => timeMs < Date.UTC(9999, 0));
  const isAfter = (now: number, base: number): boolean => {
    const { id, isClockBehind } = nextSessionId(now, formatSessionId(base));
    return id > formatSessionId(base) && isClockBehind === now <= base && parseSessionId(id) !== undefined;
  };
  fc.assert(fc.property(before9999, before9999, isAfter));
  fc.assert(fc.property(before9999, fc.integer({ min: -5, max: 5 }), (base, step) => isAfter(base + step, base)));
  t.pass();
});
