import test from 'ava';
import fc from 'fast-check';
import { checkTag, type Labels, labelsCodec, NO_LABELS, tagProblem } from '../../../bands/format/labels.ts';
import { anyText, anyTime, testJsonCodec } from './json-suite.ts';
import { type FaultyText, readVectors } from './vectors.ts';

const ACCEPTED = [
  'a',
  'A',
  '1',
  'v1.2',
  'before-upgrade',
  'a_b',
  'Latest',
  'latest2',
  '2026',
  '2026-111',
  '20261121',
  'ünïcode',
  '日本',
  'x'.repeat(100),
  '𝒜𝒷',
];
const REFUSED = [
  ...[
    '',
    ' ',
    'a b',
    ' a',
    'a ',
    'a\n',
    '\n',
    'a/b',
    '/',
    '.',
    '..',
    '-a',
    '.a',
    '_a',
    'a@b',
    'a=b',
    'a:b',
    'a,b',
    'a*',
    'x'.repeat(101),
    'e\u0301',
    '😀',
    '\ud800',
  ],
  ...['latest', '2026-11', '2026-11-21', '2026-11-21T10', '2026-13', '20261121T100000.123Z'],
];

test('a tag of letters, digits and ".", "_", "-" is accepted', (t) => {
  for (const tag of ACCEPTED) {
    t.is(tagProblem(tag), undefined, tag);
    t.notThrows(() => checkTag(tag));
  }
});

test('a tag that is empty, too long, holds other signs or reads like a session or date is refused', (t) => {
  for (const tag of REFUSED) {
    t.is(typeof tagProblem(tag), 'string', tag);
    t.throws(() => checkTag(tag), { name: 'TimebandError', code: 'USAGE' }, tag);
  }
});

test('labels with a refused tag cannot be read', (t) => {
  for (const tag of REFUSED) t.throws(() => labelsCodec.decode(labelsCodec.encode({ ...NO_LABELS, tags: [tag] })), { code: 'RECORD_CORRUPT' }, tag);
});

test('labels with an accepted tag come back', (t) => {
  for (const tag of ACCEPTED) t.deepEqual(labelsCodec.decode(labelsCodec.encode({ ...NO_LABELS, tags: [tag] })).tags, [tag]);
});

test('no labels at all are a value too', (t) => {
  t.deepEqual(labelsCodec.decode(labelsCodec.encode(NO_LABELS)), NO_LABELS);
});

const tags = fc
  .uniqueArray(fc.stringMatching(/^[A-Za-z][a-z0-9._-]{0,5}$/), { maxLength: 5 })
  .map((list) => list.filter((tag) => tag !== 'latest').sort());

testJsonCodec<Labels>('labels', {
  codec: labelsCodec,
  ...readVectors<{ labels: { text: string; faults: FaultyText[] } }>('documents').labels,
  value: {
    tags: ['before-upgrade', 'v1.2', 'ünïcode'],
    note: '',
    isProtected: true,
    verified: { atMs: 1_795_255_200_123, withData: false },
  },
  values: fc.record({
    tags,
    note: anyText,
    isProtected: fc.boolean(),
    verified: fc.option(fc.record({ atMs: anyTime, withData: fc.boolean() }), { nil: undefined }),
  }),
});
