import { posix } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { ID_BYTES } from '../../../bands/format/keys.ts';
import { KEY_BYTES } from '../../../bands/format/primitives.ts';
import { checkVolumeName, MAX_NAME_BYTES, type VolumeRecord, volumeNameProblem, volumeRecordCodec } from '../../../bands/format/volume-record.ts';
import { fill } from '../../support/bytes.ts';
import { anyBytes, anyPadding, anyText, anyTime, testJsonCodec } from './json-suite.ts';
import { type FaultyText, readVectors } from './vectors.ts';

const ACCEPTED = [
  'a',
  'work',
  'work/private',
  'a/b/c',
  'Latest',
  'latest2',
  'a.b',
  '...',
  '.hidden',
  'a b',
  'åäö',
  '日本',
  '😀',
  'a:b',
  'x'.repeat(255),
  '20261121',
  '20261121T100000Z',
];
const REFUSED = [
  ...['', '/', 'a/', '/a', 'a//b', '.', '..', 'a/..', '../a', 'a/./b', 'a@b', '@', 'a=b', 'a\0', 'a\nb', '\u007f', '\u0085', '\ud800', 'a\udfff'],
  ...[
    'latest',
    'a/latest',
    'latest/a',
    '20261121T100000.123Z',
    'a/20261121T100000.123Z',
    '99999999T999999.999Z',
    'x'.repeat(256),
    '日'.repeat(86),
    '😀'.repeat(64),
  ],
];

test('a name whose parts can be folders is accepted', (t) => {
  for (const name of ACCEPTED) {
    t.is(volumeNameProblem(name), undefined, name);
    t.notThrows(() => checkVolumeName(name));
  }
});

test('a name that is no path of folders, or reads like a session, is refused', (t) => {
  for (const name of REFUSED) {
    t.is(typeof volumeNameProblem(name), 'string', name);
    t.throws(() => checkVolumeName(name), { name: 'TimebandError', code: 'USAGE' }, name);
  }
});

test('any accepted name stays below the folder that it is put in', (t) => {
  const parts = fc.constantFrom('.', '..', 'a', '', 'latest', 'b c', '...');
  const names = fc.oneof(
    anyText,
    fc.array(parts, { maxLength: 5 }).map((list) => list.join('/')),
  );
  const isBelow = (name: string): boolean => {
    if (volumeNameProblem(name) !== undefined) return true;
    return posix.join('/mount', name) === `/mount/${name}` && Buffer.byteLength(name) <= MAX_NAME_BYTES && !name.includes('\0');
  };
  fc.assert(fc.property(names, isBelow), { numRuns: 1000 });
  t.pass();
});

test('a record with a refused name or band size cannot be read', (t) => {
  const record: VolumeRecord = { name: 'a', bandBytes: 2 ** 21, createdMs: 0, note: '', padding: undefined, domain: undefined };
  for (const name of REFUSED)
    t.throws(() => volumeRecordCodec.decode(volumeRecordCodec.encode({ ...record, name })), { code: 'RECORD_CORRUPT' }, name);
  for (const padding of [0, 1, 2048, 12_288, 2 ** 22])
    t.throws(() => volumeRecordCodec.decode(volumeRecordCodec.encode({ ...record, padding })), { code: 'RECORD_CORRUPT' }, `${padding}`);
  for (const bandBytes of [0, 1, 2 ** 17, 3 * 2 ** 20, 2 ** 27, 2 ** 21 + 0.5, Number.NaN]) {
    t.throws(() => volumeRecordCodec.decode(volumeRecordCodec.encode({ ...record, bandBytes })), { code: 'RECORD_CORRUPT' }, `${bandBytes}`);
  }
});

const value: VolumeRecord = {
  name: 'work/mail – å',
  bandBytes: 2_097_152,
  createdMs: 1_795_255_200_123,
  note: 'line 1\nline 2 "quoted"',
  padding: undefined,
  domain: undefined,
};
const values: fc.Arbitrary<VolumeRecord> = fc.record({
  name: fc.oneof(
    fc.constantFrom(...ACCEPTED),
    anyText.filter((name) => volumeNameProblem(name) === undefined),
  ),
  bandBytes: fc.integer({ min: 18, max: 26 }).map((power) => 2 ** power),
  createdMs: anyTime,
  note: anyText,
  padding: anyPadding,
  domain: fc.option(fc.record({ name: fc.constantFrom('templates', 'Größe-2', 'a.b_c'), id: anyBytes(ID_BYTES), bandKey: anyBytes(KEY_BYTES) }), {
    nil: undefined,
  }),
});
const vectors = readVectors<Record<'volume' | 'volumeInDomain', { text: string; faults: FaultyText[] }>>('documents');

testJsonCodec<VolumeRecord>('volume record', { codec: volumeRecordCodec, ...vectors.volume, value, values });

testJsonCodec<VolumeRecord>('volume record in a key domain', {
  codec: volumeRecordCodec,
  ...vectors.volumeInDomain,
  value: { ...value, domain: { name: 'templates', id: fill('domain', ID_BYTES), bandKey: fill('domain bands', KEY_BYTES) } },
  values,
});
