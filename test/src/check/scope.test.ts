/** Parts of a check, and the order of sessions where time is short. */
import { createHash } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { byUrgency, isInSubset, parseSubset } from '../../../src/check/scope.ts';
import { codeOf } from '../../support/library.ts';

test('a subset is a percentage or a part of several; all of it is none', (t) => {
  t.deepEqual(parseSubset('5%'), { kind: 'random', share: 0.05 });
  t.deepEqual(parseSubset('0.5%'), { kind: 'random', share: 0.005 });
  t.deepEqual(parseSubset('2/7'), { kind: 'part', part: 2, parts: 7 });
  t.deepEqual(parseSubset('7/7'), { kind: 'part', part: 7, parts: 7 });
  for (const all of ['100%', '100.0%', '1/1']) t.is(parseSubset(all), undefined);
});

test('what is no part is refused', async (t) => {
  for (const text of ['', '5', '%', '0%', '0.0%', '101%', '-5%', '5 %', '1e1%', '0/7', '8/7', '1/0', '0/0', '1.5/7', '/7', '2/', '2/7/9', 'all'])
    t.is(await codeOf(() => parseSubset(text)), 'USAGE', text);
});

function names(count: number): string[] {
  return Array.from({ length: count }, (_, i) => createHash('sha256').update(`${i}`).digest('hex').slice(0, 32));
}

test('every band file is in exactly one of the parts, and the parts are about equal', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 400 }), fc.stringMatching(/^[0-9a-f]{32}$/), (parts, name) => {
      const holding = Array.from({ length: parts }, (_, i) => i + 1).filter((part) => isInSubset({ kind: 'part', part, parts }, name));
      t.is(holding.length, 1);
    }),
  );
  for (let part = 1; part <= 7; part++) {
    const { length } = names(7000).filter((name) => isInSubset({ kind: 'part', part, parts: 7 }, name));
    t.true(length > 800 && length < 1200, `${length} in part ${part}`);
  }
});

test('a random share is about that share, and another one each time', (t) => {
  const choose = (): string[] => names(10_000).filter((name) => isInSubset({ kind: 'random', share: 0.05 }, name));
  const [first, second] = [choose(), choose()];
  t.true(first.length > 350 && first.length < 650, `${first.length}`);
  t.notDeepEqual(first, second);
  t.is(names(100).filter((name) => isInSubset(undefined, name)).length, 100);
});

test('what was never verified comes first, the newest before the others; then what was verified longest ago', (t) => {
  const one = (sessionId: string, atMs?: number, withData = true) => ({ sessionId, verified: atMs === undefined ? undefined : { atMs, withData } });
  const sessions = [one('a', 30), one('b'), one('c', 10), one('d'), one('e', 20, false)];
  const order = (withData: boolean): string => byUrgency(sessions, withData).reduce((text, { sessionId }) => text + sessionId, '');
  t.is(order(false), 'dbcea');
  t.is(order(true), 'edbca', 'data that was not read is not verified');
});
