/** The worked example of the README, read from there: its rules and sessions must give its table, reason for reason. */
import { readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { parseDuration } from '../../../src/retention/duration.ts';
import { applyRetention } from '../../../src/retention/policy.ts';
import { parseCount, type RetentionRules } from '../../../src/retention/rules.ts';
import { sessionsAt } from './sessions.ts';

const NOW_MS = Date.parse('2026-11-20T18:00Z');
const DELETED = '–';

const readme = readFileSync(new URL('../../../../README.md', import.meta.url), 'utf8');
const section = /\n## Retention\n(.*?)\n## /s.exec(readme)?.[1] ?? '';

/** The rule sets: `- A: ...` with the options as on a command line. */
const ruleSets = [...section.matchAll(/^- ([A-Z]): `(.*)`$/gm)].map(([, name = '', options = '']) => ({ name, rules: parseOptions(options) }));

/** The table's rows: time, label, and a cell for each rule set. */
const rows = section
  .split('\n')
  .filter((line) => /^\| 20\d\d-/.test(line))
  .map((line) => line.slice(2, -2).split(' | '));

function parseOptions(text: string): RetentionRules {
  const options = [...text.matchAll(/--(\S+)(?: ([^\s-]\S*))?/g)].map(([, option = '', value = '']): RetentionRules => {
    const name = option.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase());
    if (name === 'timeMachine') return { timeMachine: true };
    if (name === 'keepTag') return { keepTags: [value] };
    return { [name]: name === 'keepWithin' || name === 'olderThan' ? parseDuration(value) : parseCount(value) };
  });
  return Object.assign({}, ...options);
}

function check(t: ExecutionContext, column: number, rules: RetentionRules): void {
  const sessions = sessionsAt(
    rows.map(([time = '']) => `${time.replace(' ', 'T')}Z`),
    rows.map(([, label = '']) => (label === 'protected' ? { isProtected: true } : { tags: label === '' ? [] : [label] })),
  );
  const decisions = applyRetention(sessions, rules, { nowMs: NOW_MS, timeZone: 'utc' });
  t.deepEqual(
    decisions.map(({ action, reasons }, i) => `${rows[i]?.[0]} ${action === 'delete' ? DELETED : reasons.join(', ')}`),
    rows.map((cells) => `${cells[0]} ${cells[column]}`),
  );
}

test('the example has four sets of rules and twelve sessions', (t) => {
  t.deepEqual(
    ruleSets.map(({ name }) => name),
    ['A', 'B', 'C', 'D'],
  );
  t.is(rows.length, 12);
  t.true(rows.every((cells) => cells.length === 6));
});

for (const [i, { name, rules }] of ruleSets.entries()) {
  test(`set ${name} of the example keeps what its column says`, (t) => check(t, i + 2, rules));
}
