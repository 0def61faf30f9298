/** Volumes of several index pages (512 bands each): changes before, at and behind the borders of pages. */
import { lstatSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { diffSessions } from '../../src/diff.ts';
import { restoreSession } from '../../src/restore.ts';
import type { SyncResult } from '../../src/sync/request.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { sh } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Bands on both sides of each border of a volume of three pages. */
const BORDERS = [0, 511, 512, 1023, 1024, 1099] as const;

interface Story {
  /** Writes bands and syncs; keeps a copy of the image for the session. */
  next(bandCount: number, bands: readonly number[], options?: { isForced?: boolean; isKnown?: boolean }): Promise<SyncResult>;
  readonly images: Map<string, string>;
}

function tell(at: Lab): Story {
  const image = at.at('live.img');
  const images = new Map<string, string>();
  let step = 0;
  let last = '';
  return {
    images,
    async next(bandCount, bands, options = {}) {
      step++;
      const parts = bands.map((i) => ({ at: i * BAND_256K, bytes: fill(`${step} ${i}`, 9000) }));
      writeParts(image, bandCount * BAND_256K, parts);
      const ranges = parts.map((part) => ({ offset: part.at, length: part.bytes.length }));
      const known = options.isKnown === true ? { changes: { since: last, ranges } } : {};
      const result = await at.sync('v', image, { isForced: options.isForced ?? false, ...known });
      last = result.session ?? '';
      const copy = at.at(`${step}.img`);
      sh('cp', '--sparse=always', image, copy);
      if (result.status === 'created') images.set(last, copy);
      return result;
    },
  };
}

async function verifyAll(t: ExecutionContext, at: Lab, { images }: Story): Promise<void> {
  for (const [id, image] of images) {
    const target = at.at(`restored-${id}.img`);
    await restoreSession({ session: await at.session('v', id), target, pool });
    t.is(firstWrongByte(target, image), undefined, `session ${id}`);
    t.true(lstatSync(target).blocks * 512 <= BORDERS.length * 16_384, 'the restored file is sparse');
  }
  t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
}

async function pageInodes(at: Lab): Promise<number[]> {
  const session = await at.session('v');
  return Array.from({ length: session.pageCount }, (_, i) => lstatSync(session.pagePath(i)).ino);
}

for (const isKnown of [false, true]) {
  test.serial(`a change in one page links the other pages${isKnown ? ' unread' : ''}`, async (t) => {
    const at = await lab(t, pool);
    const story = tell(at);
    await story.next(1100, BORDERS);
    let before = await pageInodes(at);
    for (const band of BORDERS) {
      const result = await story.next(1100, [band], { isKnown });
      t.like(result, { changedBands: 1, writtenBands: 1, linkedBands: BORDERS.length - 1, zeroBands: 1100 - BORDERS.length });
      const after = await pageInodes(at);
      const page = Math.floor(band / 512);
      t.deepEqual(
        after.map((inode, i) => inode === before[i]),
        after.map((_, i) => i !== page),
        `only page ${page} is a new file`,
      );
      before = after;
    }
    await verifyAll(t, at, story);
  });
}

test.serial('a forced session of an unchanged volume links every page and band', async (t) => {
  const at = await lab(t, pool);
  const story = tell(at);
  await story.next(1100, BORDERS);
  const before = await pageInodes(at);
  t.is((await story.next(1100, [])).status, 'unchanged');
  const forced = await story.next(1100, [], { isForced: true });
  t.like(forced, { status: 'created', changedBands: 0, writtenBands: 0, writtenBytes: 0, linkedBands: BORDERS.length });
  t.deepEqual(await pageInodes(at), before);
  await verifyAll(t, at, story);
});

for (const isKnown of [false, true]) {
  test.serial(`a volume that grows and shrinks across page borders${isKnown ? ', with known changes' : ''}`, async (t) => {
    const at = await lab(t, pool);
    const story = tell(at);
    await story.next(511, [0, 510]);
    for (const [bandCount, bands] of [
      [512, [511]],
      [513, [512]],
      [1100, [1024, 1099]],
      [1024, []],
      [1025, []],
      [512, [3]],
      [513, [512]],
      [1, []],
      [1100, [1023]],
    ] as const) {
      await story.next(bandCount, bands, { isKnown });
      t.is((await at.session('v')).pageCount, Math.ceil(bandCount / 512));
    }
    await verifyAll(t, at, story);
  });
}

test.serial('diff across sessions of other sizes finds bands that were dropped and grown again', async (t) => {
  const at = await lab(t, pool);
  const story = tell(at);
  const first = await story.next(1100, BORDERS);
  await story.next(600, []);
  const third = await story.next(1100, [1024]);
  const { ranges } = await diffSessions(await at.repository.volume('v'), first.session ?? '', third.session ?? '');
  t.deepEqual(
    ranges.map(({ offset }) => offset / BAND_256K),
    [1023, 1099],
    'neighbours are joined: 1023 with 1024',
  );
});
