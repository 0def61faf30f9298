/** A source that changes its size at a known moment of a sync: after the first band was read; and one that hides that it changed. */
import { closeSync, openSync, readdirSync, statSync, truncateSync, utimesSync, writeSync } from 'node:fs';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { restoreSession } from '../../src/restore.ts';
import type { SyncOptions } from '../../src/sync/request.ts';
import { fill } from '../support/bytes.ts';
import { mountFileSystem } from '../support/file-systems.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { incomingFiles } from '../support/processes.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const BANDS = 40;

function makeImage(at: Lab, label: string): string {
  const image = at.at('disk.img');
  const noise = fill(label, BAND_256K + BANDS);
  writeParts(
    image,
    (BANDS + 8) * BAND_256K,
    Array.from({ length: BANDS }, (_, i) => ({ at: i * BAND_256K, bytes: noise.subarray(i, i + BAND_256K) })),
  );
  return image;
}

/** Runs `change` once, when the first progress is reported. */
function once(change: () => void): Pick<SyncOptions, 'onProgress'> {
  let isDone = false;
  return {
    onProgress() {
      if (!isDone) change();
      isDone = true;
    },
  };
}

for (const { title, sizeBytes } of [
  { title: 'cut to a few bands', sizeBytes: 2 * BAND_256K },
  { title: 'cut within a band', sizeBytes: 30 * BAND_256K + 512 },
  { title: 'cut to nothing', sizeBytes: 0 },
  { title: 'shortened by a hole at its end', sizeBytes: (BANDS + 2) * BAND_256K },
  { title: 'grown', sizeBytes: 100 * BAND_256K },
  { title: 'grown by a byte', sizeBytes: (BANDS + 8) * BAND_256K + 1 },
]) {
  test.serial(`a source that is ${title} while it is read is SOURCE_CHANGED, and no session is made of it`, async (t) => {
    const at = await lab(t, pool);
    const image = makeImage(at, 'first');
    const change = once(() => truncateSync(image, sizeBytes));
    t.is(await codeOf(() => at.sync('first time', image, change)), 'SOURCE_CHANGED');
    t.deepEqual(await sessionCounts(at), ['first time 0'], 'a first sync leaves a volume with nothing but what the next sync may use');

    makeImage(at, 'first');
    await at.sync('disk', image);
    makeImage(at, 'second');
    t.is(
      await codeOf(() =>
        at.sync(
          'disk',
          image,
          once(() => truncateSync(image, sizeBytes)),
        ),
      ),
      'SOURCE_CHANGED',
    );
    t.deepEqual(await sessionCounts(at), ['disk 1', 'first time 0']);
    t.true(incomingFiles(at.repo).every(isKept));
  });
}

/** Whether a path lies in the folder of which the next sync goes on. */
const isKept = (file: string): boolean => /\/incoming\/sync(?:\/|$)/.test(file);

async function sessionCounts(at: Lab): Promise<string[]> {
  const { volumes } = await at.repository.listVolumes();
  return await Promise.all(volumes.map(async (volume) => `${volume.name} ${(await volume.sessionIds()).length}`));
}

test.serial('a sync that is aborted at any progress makes no session, and leaves only what the next one goes on from', async (t) => {
  const at = await lab(t, pool);
  const image = makeImage(at, 'first');
  await at.sync('disk', image);
  makeImage(at, 'second');
  for (const stopAt of [1, 2, 5, 20, 40]) {
    const abort = new AbortController();
    let seen = 0;
    const onProgress = (): void => {
      seen++;
      if (seen === stopAt) abort.abort();
    };
    t.is(await codeOf(() => at.sync('disk', image, { signal: abort.signal, onProgress })), 'INTERRUPTED', `at progress ${stopAt}`);
    t.true(incomingFiles(at.repo).every(isKept));
    t.deepEqual(readdirSync(`${at.repo}/locks`), []);
  }
  t.is((await at.sync('disk', image)).status, 'created');
  t.deepEqual(incomingFiles(at.repo), []);
});

for (const kind of ['image', 'reflink'] as const) {
  test.serial(`an image that was changed and got its old time and size back is backed up all the same (${kind})`, async (t) => {
    const at = await lab(t, pool);
    const folder = kind === 'image' ? at.root : mountFileSystem(at, { name: 'XFS', make: ['mkfs.xfs', '-q', '-f'], sizeMib: 320 });
    const image = `${folder}/disk.img`;
    writeParts(image, 8 * BAND_256K, [{ at: 0, bytes: fill('first', 4 * BAND_256K) }]);
    utimesSync(image, 1_700_000_000, 1_700_000_000);
    t.is((await at.sync('disk', image)).source.kind, kind);
    t.is((await at.sync('disk')).status, 'unchanged');
    const fd = openSync(image, 'r+');
    writeSync(fd, fill('hidden', 512), 0, 512, 3 * BAND_256K + 4096);
    closeSync(fd);
    utimesSync(image, 1_700_000_000, 1_700_000_000);
    t.is(statSync(image).mtimeMs, 1_700_000_000_000);
    t.like(await at.sync('disk'), { status: 'created', changedBands: 1 });
    await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
    t.is(firstWrongByte(at.at('restored.img'), image), undefined);
  });
}
