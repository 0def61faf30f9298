/** Where a file's data is: the kernel's answers on real file systems against the bytes themselves. No byte of data may be left out. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { ByteRange } from '../../bands/format/geometry.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { restoreSession } from '../../src/restore.ts';
import { DataMap, readDataMap } from '../../src/sources/data-map.ts';
import { dataRanges, EXTENT_FLAGS } from '../../src/sources/extents.ts';
import { parseFilefrag } from '../../src/sources/read-extents.ts';
import { fill } from '../support/bytes.ts';
import { type FileSystemSpec, mountFileSystem } from '../support/file-systems.ts';
import { lab } from '../support/library.ts';
import { firstWrongByte, readPart } from '../support/parts.ts';
import { sh, workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const KIB = 1024;
const MIB = 1_048_576;
/** Makes the optional dependency be absent for a process. */
const NO_KOFFI = `const Module = require('node:module');
const load = Module._load;
Module._load = (name, ...rest) => {
  if (name === 'koffi') throw new Error('not installed');
  return load(name, ...rest);
};`;

/** File systems to ask. */
const FILE_SYSTEMS: readonly FileSystemSpec[] = [
  { name: 'ext4', make: ['mkfs.ext4', '-q', '-F', '-b', '4096'], sizeMib: 64 },
  { name: 'ext4 with blocks of 1 KiB', make: ['mkfs.ext4', '-q', '-F', '-b', '1024'], sizeMib: 64 },
  { name: 'xfs', make: ['mkfs.xfs', '-q', '-f'], sizeMib: 320 },
  { name: 'xfs with blocks of 1 KiB', make: ['mkfs.xfs', '-q', '-f', '-b', 'size=1024'], sizeMib: 320 },
  { name: 'btrfs', make: ['mkfs.btrfs', '-q', '-f'], sizeMib: 128 },
  { name: 'tmpfs', make: [], sizeMib: 64 },
];

interface Layout {
  readonly what: string;
  readonly sizeBytes: number;
  /** Preallocated before anything is written. */
  readonly allocated?: ByteRange;
  readonly data: readonly ByteRange[];
  readonly punched?: ByteRange;
}

const LAYOUTS: readonly Layout[] = [
  { what: 'nothing', sizeBytes: 8 * MIB, data: [] },
  { what: 'data in the middle', sizeBytes: 8 * MIB, data: [{ offset: 3 * MIB, length: 100 * KIB }] },
  {
    what: 'one sector here and there',
    sizeBytes: 8 * MIB,
    data: [0, 1, 5 * KIB, MIB + 512, 8 * MIB - 512].map((offset) => ({ offset, length: 512 })),
  },
  { what: 'single kilobytes', sizeBytes: 4 * MIB, data: Array.from({ length: 12 }, (_, i) => ({ offset: i * 301 * KIB, length: KIB })) },
  {
    what: 'preallocated space, partly written',
    sizeBytes: 8 * MIB,
    allocated: { offset: 0, length: 6 * MIB },
    data: [{ offset: 2 * MIB, length: 5000 }],
  },
  { what: 'data with a hole punched into it', sizeBytes: 8 * MIB, data: [{ offset: 0, length: 4 * MIB }], punched: { offset: MIB, length: MIB } },
  { what: 'a size that is no block', sizeBytes: 3 * MIB + 512, data: [{ offset: 3 * MIB - 300, length: 812 }] },
  { what: 'a few bytes only', sizeBytes: 512, data: [{ offset: 0, length: 512 }] },
];

/** Writes a file as the layout says; nothing of it is synced. */
function lay(file: string, { sizeBytes, allocated, data, punched }: Layout): void {
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT);
  ftruncateSync(fd, sizeBytes);
  if (allocated !== undefined) sh('fallocate', '--offset', String(allocated.offset), '--length', String(allocated.length), file);
  for (const { offset, length } of data) writeSync(fd, fill('data', length), 0, length, offset);
  if (punched !== undefined) sh('fallocate', '--punch-hole', '--offset', String(punched.offset), '--length', String(punched.length), file);
  closeSync(fd);
}

/** The first byte of the file that is not zero and in none of the ranges. */
function firstLeftOut(file: string, ranges: readonly ByteRange[], sizeBytes: number): number | undefined {
  const bytes = readPart(file, 0, sizeBytes);
  for (const { offset, length } of ranges) bytes.fill(0, offset, offset + length);
  const at = bytes.findIndex((byte) => byte !== 0);
  return at === -1 ? undefined : at;
}

async function mapOf(file: string): Promise<DataMap | undefined> {
  const fd = openSync(file, 'r');
  try {
    return await readDataMap({ fd, path: file, sizeBytes: fstatSync(fd).size });
  } finally {
    closeSync(fd);
  }
}

function verifyRanges(t: ExecutionContext, map: DataMap, layout: Layout, file: string): void {
  t.is(firstLeftOut(file, map.ranges, layout.sizeBytes), undefined, `${layout.what}: no data is left out`);
  let end = -1;
  for (const { offset, length } of map.ranges) {
    t.true(offset > end && length > 0 && offset + length <= layout.sizeBytes, `${layout.what}: sorted, apart, within the file`);
    end = offset + length;
  }
}

for (const fileSystem of FILE_SYSTEMS) {
  test.serial(`on ${fileSystem.name} no byte of data is left out, synced or not, and large holes are`, async (t) => {
    const ws = workspace(t);
    const folder = mountFileSystem(ws, fileSystem);
    for (const [i, layout] of LAYOUTS.entries()) {
      const file = `${folder}/${i}.img`;
      lay(file, layout);
      const dirty = await mapOf(file);
      if (dirty === undefined) t.fail(`${layout.what}: no map`);
      else verifyRanges(t, dirty, layout, file);
      sh('sync', '-f', folder);
      const clean = await mapOf(file);
      if (clean !== undefined) verifyRanges(t, clean, layout, file);
      const written = layout.data.reduce((sum, { length }) => sum + length, 0);
      if (layout.allocated === undefined)
        t.true((clean?.dataBytes ?? 0) <= written + layout.data.length * 128 * KIB, `${layout.what}: holes are found`);
    }
  });

  if (fileSystem.name === 'tmpfs') continue; // it has no extents to list
  test.serial(`on ${fileSystem.name} what filefrag lists holds all data, too`, (t) => {
    const ws = workspace(t);
    const folder = mountFileSystem(ws, fileSystem);
    for (const [i, layout] of LAYOUTS.entries()) {
      const file = `${folder}/${i}.img`;
      lay(file, layout);
      const text = execFileSync('filefrag', ['-s', '-v', '-b512', '--', file], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
      const extents = parseFilefrag(text);
      if (extents !== undefined) verifyRanges(t, new DataMap(dataRanges(extents, layout.sizeBytes), layout.sizeBytes), layout, file);
    }
  });
}

test('a file on a file system that is not trusted has no map', async (t) => {
  t.is(await mapOf('/proc/self/mountinfo'), undefined);
});

test('what lies within a range is what a search through all ranges finds', (t) => {
  const ranges = fc.array(fc.record({ offset: fc.nat(5_000_000), length: fc.integer({ min: 1, max: 300_000 }) }), { maxLength: 20 });
  fc.assert(
    fc.property(ranges, fc.nat(5_000_000), fc.integer({ min: 1, max: 2_000_000 }), (all, offset, length) => {
      const map = new DataMap(
        all.toSorted((a, b) => a.offset - b.offset),
        8_000_000,
      );
      const expected = map.ranges
        .map((range) => [Math.max(range.offset, offset), Math.min(range.offset + range.length, offset + length)] as const)
        .filter(([start, end]) => start < end)
        .flatMap(([start, end]) => [start - offset, end - start]);
      t.deepEqual(map.within(offset, length), expected);
      t.is(
        map.dataBytes,
        map.ranges.reduce((sum, range) => sum + range.length, 0),
      );
      for (const one of all) t.true(map.ranges.some((range) => range.offset <= one.offset && range.offset + range.length >= one.offset + one.length));
    }),
  );
});

test('output of filefrag that is not understood is no map, rather than an empty one', (t) => {
  t.is(parseFilefrag(''), undefined);
  t.is(parseFilefrag('/f: 3 extents found\n'), undefined);
  t.deepEqual(parseFilefrag('Filesystem type is: ef53\nFile size of /f is 4096 (1 block of 4096 bytes)\n/f: 0 extents found\n'), []);
  const listed =
    ' ext:     logical_offset:        physical_offset: length:   expected: flags:\n   0:        2..       3:      34816..     34817:      2:             last\n';
  t.deepEqual(parseFilefrag(`${listed}/f: 1 extent found\n`), [{ logical: 8192, physical: 34_816 * 4096, length: 8192, flags: EXTENT_FLAGS.last }]);
  t.is(parseFilefrag(`${listed}   1:      something new\n/f: 2 extents found\n`), undefined, 'a line that is not understood');
});

for (const fileSystem of FILE_SYSTEMS) {
  test.serial(`on ${fileSystem.name} a session is right where koffi is not installed`, async (t) => {
    const at = await lab(t, pool);
    const folder = mountFileSystem(at, fileSystem);
    writeFileSync(at.at('no-koffi.cjs'), NO_KOFFI);
    const file = (i: number): string => `${folder}/${i}.img`;
    for (const [i, layout] of LAYOUTS.entries()) lay(file(i), layout);
    const { status, stderr } = await at.cliIn(
      { NODE_OPTIONS: `--require=${at.at('no-koffi.cjs')}` },
      'sync',
      ...LAYOUTS.map((_, i) => `v${i}=${file(i)}`),
    );
    t.is(status, 0, stderr);
    for (const [i, layout] of LAYOUTS.entries()) {
      await restoreSession({ session: await at.session(`v${i}`), target: at.at(`${i}.img`), pool });
      t.is(firstWrongByte(at.at(`${i}.img`), file(i)), undefined, layout.what);
    }
  });
}
