/** What is taken as a count, a length of time, and a set of rules. */
import test from 'ava';
import fc from 'fast-check';
import { parseDuration } from '../../../src/retention/duration.ts';
import { checkRules, parseCount, type RetentionRules, UNLIMITED } from '../../../src/retention/rules.ts';
import { codeOf } from '../../support/library.ts';

test('lengths of time have units, the largest first', (t) => {
  t.deepEqual(parseDuration('12h'), { text: '12h', months: 0, days: 0, hours: 12 });
  t.deepEqual(parseDuration('30d'), { text: '30d', months: 0, days: 30, hours: 0 });
  t.deepEqual(parseDuration('2w'), { text: '2w', months: 0, days: 14, hours: 0 });
  t.deepEqual(parseDuration('3m'), { text: '3m', months: 3, days: 0, hours: 0 });
  t.deepEqual(parseDuration('1y'), { text: '1y', months: 12, days: 0, hours: 0 });
  t.deepEqual(parseDuration('1y6m1w2d3h'), { text: '1y6m1w2d3h', months: 18, days: 9, hours: 3 });
});

for (const text of [
  '',
  '30',
  'd',
  '0d',
  '0h0d',
  '-1d',
  '1.5d',
  '30 d',
  '30D',
  '3M',
  '1h1d',
  '1d1d',
  '30s',
  '100000d',
  '1d ',
  '٣d',
  '1e3d',
  'unlimited',
]) {
  test(`"${text}" is refused as a length of time`, async (t) => t.is(await codeOf(() => parseDuration(text)), 'USAGE'));
}

test('counts are numbers, or without an end', (t) => {
  t.is(parseCount('7'), 7);
  t.is(parseCount('0'), 0);
  t.is(parseCount('007'), 7);
  t.is(parseCount('unlimited'), UNLIMITED);
  t.is(parseCount('-1'), UNLIMITED);
});

for (const text of ['', '-2', '1.5', '7d', ' 7', 'all', 'Infinity', '1e3', '0x7', '1234567890', 'NaN']) {
  test(`"${text}" is refused as a count`, async (t) => t.is(await codeOf(() => parseCount(text)), 'USAGE'));
}

test('any text is a count, a length of time, or wrong usage', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string(), fc.stringMatching(/^[0-9ymwdh-]{0,12}$/)), async (text) => {
      const codes = [await codeOf(() => parseCount(text)), await codeOf(() => parseDuration(text))];
      return codes.every((code) => code === undefined || code === 'USAGE');
    }),
  );
  t.pass();
});

const nothing: Record<string, RetentionRules> = {
  'no rules': {},
  'rules switched off': { keepLast: 0, keepDaily: 0, keepYearly: undefined, timeMachine: false },
  'an empty list of tags': { keepTags: [] },
  'a limit by age alone': { olderThan: parseDuration('30d') },
};
for (const [name, rules] of Object.entries(nothing)) {
  test(`${name}: refused, since nothing would be kept`, async (t) => t.is(await codeOf(() => checkRules(rules)), 'USAGE'));
}

test('a tag that cannot be one is refused', async (t) => t.is(await codeOf(() => checkRules({ keepLast: 1, keepTags: ['latest'] })), 'USAGE'));

for (const count of [-1, 1.5, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** 60]) {
  test(`a count of ${count} is a mistake of the caller`, (t) => {
    t.throws(() => checkRules({ keepLast: 1, keepDaily: count }), { instanceOf: RangeError });
  });
}

test('each rule is enough by itself', (t) => {
  const duration = parseDuration('1d');
  for (const rules of [{ keepLast: 1 }, { keepYearly: UNLIMITED }, { keepWithin: duration }, { keepTags: ['a'] }, { timeMachine: true }])
    t.notThrows(() => checkRules(rules));
});
