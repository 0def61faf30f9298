/** The map of a volume: its numbers against plain arrays, and what is drawn of them. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { Bitmap } from '../../bands/format/bitmap.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { cellGrid, heatLevels, heatOf } from '../../src/cli/map-cells.ts';
import { renderMapSvg } from '../../src/cli/map-svg.ts';
import { formatOffset, percent, renderMapText } from '../../src/cli/map-text.ts';
import { mapRuns, mapVolume, type VolumeMap } from '../../src/map.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Ten bands, with 1,000 bytes more: written, changed, cleared, cut. */
async function ready(t: ExecutionContext): Promise<{ at: Lab; ids: string[] }> {
  const at = await lab(t, pool);
  const image = at.at('disk.img');
  const ids: string[] = [];
  const steps: readonly (readonly [sizeBands: number, bands: readonly number[], cleared: readonly number[]])[] = [
    [10, [0, 1, 5, 8], []],
    [10, [1, 2], []],
    [10, [1], [5]],
    [6, [3], []],
  ];
  for (const [step, [size, bands, cleared]] of steps.entries()) {
    writeParts(image, size * BAND_256K + 1024, [
      ...bands.map((i) => ({ at: i * BAND_256K + 7, bytes: fill(`${step} ${i}`, 100) })),
      ...cleared.map((i) => ({ at: i * BAND_256K, bytes: new Uint8Array(BAND_256K) })),
    ]);
    ids.push((await at.sync('disk', image)).session ?? '');
  }
  return { at, ids };
}

test('a map counts what each session changed, for every session', async (t) => {
  const { at, ids } = await ready(t);
  const volume = await at.repository.volume('disk');
  const [first = '', , third = '', last = ''] = ids;
  const atFirst = await mapVolume(volume, first);
  t.deepEqual([...atFirst.data], [0, 1, 5, 8]);
  t.deepEqual([...atFirst.changed], [0, 1, 5, 8]);
  t.is(atFirst.base, undefined);
  t.deepEqual([...atFirst.changes], [0, 2, 1, 1, 0, 1, 0, 0, 0, 0, 0], 'all later sessions, the first itself not');
  const atThird = await mapVolume(volume, third);
  t.deepEqual([...atThird.data], [0, 1, 2, 8]);
  t.deepEqual([...atThird.changed], [1, 5]);
  const atLast = await mapVolume(volume, last);
  t.like(atLast, { bandCount: 7, sessions: ids.slice(1), skipped: [] });
  t.deepEqual([...atLast.changes], [0, 2, 1, 1, 0, 1, 0]);
  const runs = mapRuns(atLast);
  t.is(
    runs.reduce((end, { offset, length }) => (offset === end ? offset + length : Number.NaN), 0),
    6 * BAND_256K + 1024,
    'runs leave no gap, and end at the end of the volume',
  );
  t.deepEqual(runs[1], { offset: BAND_256K, length: BAND_256K, hasData: true, isChanged: false, changes: 2 });
});

test('a session that is damaged is left out and told; a map of it is an error', async (t) => {
  const { at, ids } = await ready(t);
  rmSync(path.join((await at.session('disk', ids[1])).directory, 'bitmap'));
  const map = await mapVolume(await at.repository.volume('disk'), ids[3] ?? '');
  t.deepEqual(
    map.skipped.map(({ session }) => session),
    [ids[1]],
  );
  t.deepEqual(map.sessions, ids.slice(2));
  t.is(await codeOf(async () => mapVolume(await at.repository.volume('disk'), ids[1] ?? '')), 'RECORD_MISSING');
  t.is((await at.cli('map', 'disk')).status, 3);
});

test('the command draws, writes a picture once, and prints numbers', async (t) => {
  const { at } = await ready(t);
  const drawn = await at.ok('map', 'disk@latest~1');
  t.regex(drawn, /^ {7}0 B {2}░█░··○··░··$/m);
  t.regex(drawn, /^ {7}0 B {2}·▒░░·░·····$/m);
  t.false(drawn.includes('\u001b'), 'no colours where there is no terminal');
  const picture = at.at('map.svg');
  await at.ok('map', 'disk', '--svg', picture);
  const svg = readFileSync(picture, 'utf8');
  t.regex(svg, /^<svg .*<title/s);
  writeFileSync(picture, 'mine');
  const refused = await at.json('map', 'disk', '--svg', picture);
  t.is(refused.error.code, 'TARGET_EXISTS');
  t.is(readFileSync(picture, 'utf8'), 'mine');
  await at.ok('map', 'disk', '--svg', picture, '--overwrite');
  t.is(readFileSync(picture, 'utf8'), svg);
  t.is((await at.cli('map', 'disk', '--svg', at.at('none', 'map.svg'))).status, 1);
  t.false(existsSync(at.at('none')));
  t.is(await at.ok('map', 'disk', '--quiet'), '');
});

test('on a terminal it is as wide as that, and in colours unless NO_COLOR is set', async (t) => {
  const { at } = await ready(t);
  const run = (set: string): Promise<{ stdout: string }> =>
    at.shell(`script -qec 'stty cols 61; ${set} "${process.execPath}" "${at.program}" map disk' /dev/null </dev/null`);
  const coloured = (await run('')).stdout;
  t.true(coloured.includes('\u001b[38;5;208m█'), coloured);
  const plain = (await run('NO_COLOR=1')).stdout;
  t.false(plain.includes('\u001b['));
  t.is(stripVTControlCharacters(coloured), plain);
});

function madeUp(bandCount: number, change: Partial<VolumeMap> = {}): VolumeMap {
  return {
    volume: 'disk',
    session: '20261121T100000.123Z',
    base: '20261120T100000.000Z',
    sizeBytes: bandCount * BAND_256K - 512,
    bandBytes: BAND_256K,
    bandCount,
    data: new Bitmap(bandCount),
    changed: new Bitmap(bandCount),
    changes: new Uint32Array(bandCount),
    sessions: ['20261120T100000.000Z', '20261121T100000.123Z'],
    skipped: [],
    ...change,
  };
}

test('every band is in one cell, however many there are', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60_000 }),
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 40 }),
      (bandCount, maxColumns, maxRows) => {
        const marked = bandCount - 1;
        const changed = new Bitmap(bandCount);
        changed.set(marked);
        const grid = cellGrid(madeUp(bandCount, { changed }), { maxColumns, maxRows });
        t.true(grid.columns <= maxColumns && grid.rows <= maxRows);
        t.true((grid.cells.length - 1) * grid.bandsPerCell < bandCount && grid.cells.length * grid.bandsPerCell >= bandCount);
        t.is(
          grid.cells.findIndex(({ state }) => state === 'cleared'),
          Math.floor(marked / grid.bandsPerCell),
        );
      },
    ),
    { numRuns: 60 },
  );
});

test('levels of heat cover every number once', (t) => {
  t.deepEqual(heatLevels(0), []);
  t.deepEqual(
    heatLevels(3),
    [1, 2, 3].map((i) => ({ from: i, to: i })),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100_000 }), (most) => {
      const levels = heatLevels(most);
      t.true(levels.length <= 4);
      t.is(levels[0]?.from, 1);
      t.is(levels.at(-1)?.to, most);
      for (const [i, { from, to }] of levels.entries()) {
        t.true(from <= to);
        if (i > 0) t.is(from, (levels[i - 1]?.to ?? 0) + 1);
        t.is(heatOf(from, levels), i + 1);
        t.is(heatOf(to, levels), i + 1);
      }
    }),
    { numRuns: 60 },
  );
});

test('offsets are not rounded; shares are never 0 % of something nor 100 % of less', (t) => {
  t.deepEqual([0, 512, 1024, 1_811_939_328, 1_207_959_552, 2 ** 40].map(formatOffset), ['0 B', '512 B', '1 KiB', '1728 MiB', '1.125 GiB', '1 TiB']);
  t.deepEqual([percent(0, 9), percent(1, 999), percent(1, 3), percent(998, 999), percent(9, 9)], ['0 %', '<1 %', '33 %', '>99 %', '100 %']);
});

test('a picture is well formed, runs nothing, and shows names as text', (t) => {
  const everything = new Bitmap(60_000);
  everything.setRange(0, 30_000);
  const hostile = madeUp(60_000, {
    volume: '<script>alert("1")</script>&\u0007',
    data: everything,
    changed: everything,
    changes: new Uint32Array(60_000).fill(9),
  });
  for (const map of [hostile, madeUp(1), madeUp(40, { base: undefined, sessions: [] })]) {
    const svg = renderMapSvg(map);
    t.false(/<script|\son\w+=|href|javascript:/i.test(svg));
    t.false(svg.includes('\u0007'));
    const open: string[] = [];
    for (const [, close, name = '', self] of svg.matchAll(
      /<(\/)?([a-z]+)(?:\s+[a-zA-Z-]+="[^"<&]*(?:&(?:amp|lt|gt|quot);[^"<&]*)*"|\s+xmlns="[^"]*")*\s*(\/)?>/g,
    )) {
      if (close !== undefined) t.is(open.pop(), name);
      else if (self === undefined) open.push(name);
    }
    t.deepEqual(open, []);
    t.true(svg.length < 400_000);
  }
});

test('lines are no wider than the terminal', (t) => {
  for (const columns of [40, 61, 80, 133, 400]) {
    for (const bandCount of [1, 17, 5000, 60_000]) {
      const lines = renderMapText(madeUp(bandCount, { changes: new Uint32Array(bandCount).fill(3) }), { columns, hasColour: false }).split('\n');
      const grid = lines.filter((line) => /^ *[\d.]+ [KMGT]?i?B {2}[·░▒▓█○]/.test(line));
      t.true(grid.length >= 2 && grid.length <= 32);
      for (const line of grid) t.true(line.length <= columns, line);
    }
  }
});
