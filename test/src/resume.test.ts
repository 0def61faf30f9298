/** A sync that was interrupted: the next one keeps what still holds of what was stored, and proves it first. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TimebandError } from '../../bands/errors.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { restoreSession } from '../../src/restore.ts';
import { openSource } from '../../src/sources/open-source.ts';
import type { SourceView } from '../../src/sources/source.ts';
import type { SyncResult } from '../../src/sync/request.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { incomingFiles } from '../support/processes.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const BANDS = 24;
const READ_BANDS = 16;

const noise = new Map<string, Uint8Array>();

/** A band's bytes; cheap to make, and no two labels have the same. */
function content(label: string): Uint8Array {
  const [prefix = '', number = '0'] = label.split(' ');
  const bytes = noise.get(prefix) ?? fill(prefix, BAND_256K + 1024);
  noise.set(prefix, bytes);
  return bytes.subarray(Number(number), Number(number) + BAND_256K);
}

/** An image whose bands are `labels`, one each; an empty label is zeros. */
function makeImage(at: Lab, labels: readonly string[]): string {
  const image = at.at('disk.img');
  rmSync(image, { force: true });
  const parts = labels.flatMap((label, i) => (label === '' ? [] : [{ at: i * BAND_256K, bytes: content(label) }]));
  writeParts(image, labels.length * BAND_256K, parts);
  return image;
}

const named = (prefix: string, count = BANDS): string[] => Array.from({ length: count }, (_, i) => `${prefix} ${i}`);

/** The same view, whose bands can be read only while `isReadable` says so. */
function failingView(view: SourceView, isReadable: () => boolean): SourceView {
  return {
    kind: view.kind,
    location: view.location,
    sizeBytes: view.sizeBytes,
    warnings: view.warnings,
    readDataMap: () => view.readDataMap(),
    changesSince: (base) => view.changesSince(base),
    withBand(range, data, use) {
      if (!isReadable()) throw new TimebandError('the disk is gone.', { code: 'SOURCE_UNREADABLE' });
      return view.withBand(range, data, use);
    },
    verifyStable: () => view.verifyStable(),
    bind: (token) => view.bind(token),
    committed: (token) => view.committed(token),
    close: () => view.close(),
  };
}

/** Syncs from a source that fails after some bands. @returns the message */
async function failingSync(t: ExecutionContext, at: Lab, image: string): Promise<string> {
  let left = READ_BANDS;
  const failing: typeof openSource = async (...args) => {
    const { view, ...rest } = await openSource(...args);
    return { ...rest, view: failingView(view, () => left-- > 0) };
  };
  const error = await t.throwsAsync(() => at.sync('disk', image, { sourceKind: 'image' }, { openSource: failing }), { instanceOf: TimebandError });
  t.is(error?.code, 'SOURCE_UNREADABLE');
  return error?.message ?? '';
}

/** Folder of the unfinished session's band files, and their names. */
function kept(at: Lab): { readonly folder: string; readonly names: string[] } {
  const found = incomingFiles(at.repo).find((name) => name.endsWith('/incoming/sync/bands'));
  const folder = path.join(at.repo, 'volumes', found ?? 'none');
  return { folder, names: readdirSync(folder).sort() };
}

/** The newest session is equal to the image, holds one file for each band that is no zero, and nothing is left in incoming/. */
async function assertRight(t: ExecutionContext, at: Lab, image: string, storedBands: number): Promise<void> {
  const target = at.at('restored.img');
  rmSync(target, { force: true });
  const session = await at.session('disk');
  await restoreSession({ session, target, pool });
  t.is(firstWrongByte(target, image), undefined);
  t.is(readdirSync(path.join(session.directory, 'bands')).length, storedBands);
  t.deepEqual(incomingFiles(at.repo), []);
  t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
}

const resync = (at: Lab, image: string): Promise<SyncResult> => at.sync('disk', image, { sourceKind: 'image' });

/** A program `sync` that Ctrl-C ends is the only one that is found, while `work` runs. */
async function withStoppedSync<T>(at: Lab, work: () => Promise<T>): Promise<T> {
  const before = process.env['PATH'];
  writeFileSync(path.join(at.folder('bin'), 'sync'), '#!/bin/sh\nkill -INT $$\n', { mode: 0o755 });
  process.env['PATH'] = `${at.at('bin')}:${before}`;
  try {
    return await work();
  } finally {
    process.env['PATH'] = before;
  }
}

test.serial('Ctrl-C while all is made durable keeps what was stored', async (t) => {
  const at = await lab(t, pool);
  const image = makeImage(at, named('first'));
  const error = await withStoppedSync(at, () => t.throwsAsync(() => resync(at, image), { instanceOf: TimebandError }));
  t.regex(error?.message ?? '', new RegExp(`sync -f.* The ${BANDS} band file\\(s\\) that are ready are kept`, 's'));
  t.is((await resync(at, image)).resumedBands, BANDS);
  await assertRight(t, at, image, BANDS);
});

test('a source that is not believed any more and then fails: what is kept is told once; and what a sync stored itself is not called resumed', async (t) => {
  const at = await lab(t, pool);
  await resync(at, makeImage(at, named('base', READ_BANDS)));
  const image = makeImage(at, named('second', READ_BANDS));
  let left = READ_BANDS + 4;
  const silent: typeof openSource = async (...args) => {
    const { view, ...rest } = await openSource(...args);
    const failing = failingView(view, () => left-- > 0);
    return { ...rest, view: { ...failing, changesSince: () => Promise.resolve({ isKnown: true, ranges: [] }) } };
  };
  const run = (): Promise<SyncResult> => at.sync('disk', image, { sourceKind: 'image', isForced: true }, { openSource: silent });
  const [first] = await at.repository.volume('disk').then((volume) => volume.sessionIds());
  const error = await t.throwsAsync(run, { instanceOf: TimebandError });
  t.is(error?.message.match(/are kept/g)?.length, 1, error?.message);
  rmSync(path.join(at.repo, 'volumes', (await at.repository.volume('disk')).id, 'incoming/sync'), { recursive: true });
  left = 1000;
  t.like(await run(), { base: first, resumedBands: 0, writtenBands: READ_BANDS, changedBands: READ_BANDS });
  await assertRight(t, at, image, READ_BANDS);
});

test('a first sync that fails keeps its volume and what it stored; the next one seals none of it again', async (t) => {
  const at = await lab(t, pool);
  const image = makeImage(at, named('first'));
  t.regex(await failingSync(t, at, image), /16 band file\(s\) that are ready are kept: the next sync of "disk"/);
  const { folder, names } = kept(at);
  const inodes = new Set(names.map((name) => statSync(path.join(folder, name)).ino));
  t.is(names.length, READ_BANDS);
  const result = await resync(at, image);
  t.is(result.resumedBands, READ_BANDS);
  t.is(result.writtenBands, BANDS);
  const session = await at.session('disk');
  const now = readdirSync(path.join(session.directory, 'bands')).map((name) => statSync(path.join(session.directory, 'bands', name)).ino);
  t.is(now.filter((ino) => inodes.has(ino)).length, READ_BANDS, 'the very files are used');
  await assertRight(t, at, image, BANDS);
});

test('a failure before anything is stored leaves no volume', async (t) => {
  const at = await lab(t, pool);
  const image = makeImage(at, named('', 3).fill(''));
  await t.throwsAsync(() =>
    at.sync('disk', image, { sourceKind: 'image' }, { openSource: () => Promise.reject(new TimebandError('no', { code: 'SOURCE_NOT_FOUND' })) }),
  );
  t.deepEqual((await at.repository.listVolumes()).volumes, []);
});

test('what changed since is stored anew, zeros and bands of the base are not mistaken, and a smaller volume keeps nothing beyond its end', async (t) => {
  const at = await lab(t, pool);
  const base = named('base');
  await resync(at, makeImage(at, base));
  const baseInode = (session: { readonly directory: string }, name: string): number => statSync(path.join(session.directory, 'bands', name)).ino;
  const first = await at.session('disk');
  await failingSync(t, at, makeImage(at, named('second')));
  t.is(kept(at).names.length, READ_BANDS);
  // By now: some as they were when it failed, some back as in the base, some zero, some new, and the last ones cut off.
  const now = named('second', 18).map((label, i) => [label, base[i] ?? '', '', `third ${i}`][i % 4] ?? '');
  const image = makeImage(at, now);
  const result = await resync(at, image);
  t.true(result.resumedBands > 0 && result.resumedBands <= 5, `${result.resumedBands} of the first kind`);
  await assertRight(t, at, image, now.filter((label) => label !== '').length);
  const session = await at.session('disk');
  for (const i of [1, 5, 9, 13, 17]) {
    const [name = ''] = session.bandPaths(i, 1).map((file) => path.basename(file));
    t.is(baseInode(session, name), baseInode(first, name), `band ${i} is linked from the base`);
  }
});

test('nothing that was left is taken on trust: cut, damaged, exchanged and foreign files are stored anew', async (t) => {
  const at = await lab(t, pool);
  const image = makeImage(at, named('first'));
  await failingSync(t, at, image);
  const { folder, names } = kept(at);
  const [cut = '', flipped = '', one = '', other = '', linked = '', odd = '', empty = ''] = names.map((name) => path.join(folder, name));
  truncateSync(cut, 1000);
  const bytes = readFileSync(flipped);
  writeFileSync(flipped, bytes.fill(bytes[5000] === 7 ? 8 : 7, 5000, 5001));
  renameSync(one, `${one}.x`);
  renameSync(other, one);
  renameSync(`${one}.x`, other);
  rmSync(linked);
  writeFileSync(at.at('secret'), 'a file of the machine');
  symlinkSync(at.at('secret'), linked);
  rmSync(odd);
  mkdirSync(odd);
  truncateSync(empty, 0);
  rmSync(odd, { recursive: true });
  writeFileSync(path.join(folder, 'not-a-band'), 'x');
  const result = await resync(at, image);
  t.is(result.resumedBands, READ_BANDS - 7);
  t.is(readFileSync(at.at('secret'), 'utf8'), 'a file of the machine');
  await assertRight(t, at, image, BANDS);
});

test('a sync that finds the source as it was in the base clears what was left', async (t) => {
  const at = await lab(t, pool);
  await resync(at, makeImage(at, named('base')));
  await failingSync(t, at, makeImage(at, named('second')));
  const image = makeImage(at, named('base'));
  t.is((await resync(at, image)).status, 'unchanged');
  await assertRight(t, at, image, BANDS);
});

test('failures upon failures add up', async (t) => {
  const at = await lab(t, pool);
  const image = makeImage(at, named('first', 3 * BANDS));
  for (let round = 0; round < 3; round++) await failingSync(t, at, image);
  t.is(kept(at).names.length, READ_BANDS, 'each run reads as many bands, and finds the ones of the run before');
  t.is((await resync(at, image)).resumedBands, READ_BANDS);
  await assertRight(t, at, image, 3 * BANDS);
});
