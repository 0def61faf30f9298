/** How people name a session: parsing, and what it resolves to in a volume with sessions at known times. */
import test from 'ava';
import fc from 'fast-check';
import { tagProblem } from '../../bands/format/labels.ts';
import { formatSessionId } from '../../bands/format/session-id.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { notAfterMs, parseSessionSpec, splitVolumeAndSession } from '../../src/session-spec.ts';
import { BAND_256K, codeOf, lab } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

test('an id is an id, latest and latest~N count back, dates and times are times, all else is a tag', (t) => {
  t.deepEqual(parseSessionSpec('20261121T100000.123Z'), { kind: 'id', id: '20261121T100000.123Z' });
  t.deepEqual(parseSessionSpec('latest'), { kind: 'back', steps: 0 });
  t.deepEqual(parseSessionSpec('latest~2'), { kind: 'back', steps: 2 });
  for (const text of ['2026-11-21', '2026-11-21T10:00', '2026-11-21 10:00', '2026-11-21T10:00:59', '2026-11-21T10:00:59.5', '2026-11-21T10:00Z'])
    t.deepEqual(parseSessionSpec(text), { kind: 'time', text });
  for (const tag of ['weekly', 'latest2', 'v1.0', '20261121', '2026', 'latest~', '20261321T100000.123Z'])
    t.deepEqual(parseSessionSpec(tag), { kind: 'tag', tag });
});

test('every session id is taken as an id, and every tag that sync accepts as that tag', (t) => {
  const times = fc.integer({ min: 0, max: Date.UTC(9999, 11, 31) });
  fc.assert(fc.property(times, (ms) => parseSessionSpec(formatSessionId(ms)).kind === 'id'));
  const tags = fc.stringMatching(/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,20}$/u).filter((tag) => tagProblem(tag) === undefined);
  fc.assert(fc.property(tags, (tag) => parseSessionSpec(tag).kind === 'tag'));
  t.pass();
});

for (const text of [
  '2026-02-30',
  '2026-13-01',
  '2026-00-10',
  '2026-11-00',
  '2025-02-29',
  '2026-11-21T24:00',
  '2026-11-21T10:60',
  '2026-11-21T10:00:60',
  '0000-00-00',
]) {
  test(`${text} is refused as a date or time that does not exist`, async (t) => {
    t.is(await codeOf(() => parseSessionSpec(text)), 'USAGE');
  });
}

test('a date reaches to its last millisecond, a minute and a second to theirs, in local time or UTC', (t) => {
  t.is(notAfterMs('2026-11-21'), new Date(2026, 10, 21, 23, 59, 59, 999).getTime());
  t.is(notAfterMs('2026-11-21T10:00'), new Date(2026, 10, 21, 10, 0, 59, 999).getTime());
  t.is(notAfterMs('2026-11-21 10:00:07'), new Date(2026, 10, 21, 10, 0, 7, 999).getTime());
  t.is(notAfterMs('2026-11-21T10:00:07.5'), new Date(2026, 10, 21, 10, 0, 7, 500).getTime());
  t.is(notAfterMs('2026-11-21T10:00Z'), Date.UTC(2026, 10, 21, 10, 0, 59, 999));
  t.is(notAfterMs('2024-02-29'), new Date(2024, 1, 29, 23, 59, 59, 999).getTime());
  t.is(notAfterMs('2026-11-21T10'), undefined);
});

test('NAME@SESSION is split at the first "@"; an empty half is refused', async (t) => {
  t.deepEqual(splitVolumeAndSession('work/private@latest~1'), { name: 'work/private', session: 'latest~1' });
  t.deepEqual(splitVolumeAndSession('disk'), { name: 'disk', session: undefined });
  t.deepEqual(splitVolumeAndSession('disk@2026-11-21 10:00'), { name: 'disk', session: '2026-11-21 10:00' });
  for (const text of ['@latest', 'disk@', '@']) t.is(await codeOf(() => splitVolumeAndSession(text)), 'USAGE');
});

test('a spec resolves to the newest session that fits, and what fits none is SESSION_NOT_FOUND', async (t) => {
  const at = await lab(t, pool);
  const times = [Date.UTC(2026, 2, 1, 10), Date.UTC(2026, 2, 1, 22, 30), Date.UTC(2026, 2, 2, 10, 0, 30), Date.UTC(2026, 2, 5, 0, 0, 0, 1)];
  const ids: string[] = [];
  for (const [i, ms] of times.entries()) {
    writeParts(at.at('disk.img'), BAND_256K, [{ at: 0, bytes: new Uint8Array(512).fill(i + 1) }]);
    const tags = i % 2 === 0 ? ['even', `n${i}`] : [`n${i}`];
    ids.push((await at.sync('disk', at.at('disk.img'), { tags }, { nowMs: () => ms })).session ?? '');
  }
  const volume = await at.repository.volume('disk');
  const expected: Readonly<Record<string, number>> = {
    latest: 3,
    'latest~0': 3,
    'latest~1': 2,
    'latest~3': 0,
    even: 2,
    n0: 0,
    n3: 3,
    '2026-03-01T10:00Z': 0,
    '2026-03-01T22:29Z': 0,
    '2026-03-01T22:30Z': 1,
    '2026-03-02T10:00:29Z': 1,
    '2026-03-02T10:00Z': 2,
    '2026-03-05T00:00:00.000Z': 2,
    '2026-03-05T00:00:00.001Z': 3,
    '2027-01-01': 3,
  };
  for (const [spec, i] of Object.entries(expected)) t.is(await volume.resolve(spec), ids[i] ?? '', spec);
  for (const [i, id] of ids.entries()) t.is(await volume.resolve(id), ids[i] ?? '');
  for (const spec of ['latest~4', 'odd', '2026-02-01', '20200101T000000.000Z'])
    t.is(await codeOf(() => volume.resolve(spec)), 'SESSION_NOT_FOUND', spec);
  t.is(await volume.resolve(), ids[3] ?? '');
});
