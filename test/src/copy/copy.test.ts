/** Copies into a second repository: everything is there as it was, shared as it was, whatever the keys and the order. */
import { lstatSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { copySessions } from '../../../src/copy/copy.ts';
import { changeLabels } from '../../../src/labels.ts';
import type { Repository } from '../../../src/repository.ts';
import { restoreSession } from '../../../src/restore.ts';
import { syncVolume } from '../../../src/sync/sync.ts';
import { fill, sameBytes } from '../../support/bytes.ts';
import { countFiles, diffsOf, isClean, secondRepository, sharingOf } from '../../support/copies.ts';
import { BAND_256K, codeOf, type Lab, lab, openNamed } from '../../support/library.ts';
import { imageSteps, ModelImage } from '../../support/model-image.ts';
import { firstWrongByte, readPart, writeParts } from '../../support/parts.ts';
import { recover } from '../../support/recover.ts';
import { sh } from '../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** More than one index page, of which most is zeros. */
const BANDS = 600;

/** Sessions in which bands change, come, go, and change back; the images as they were lie beside. */
async function history(at: Lab): Promise<string[]> {
  const image = at.at('disk.img');
  const ids: string[] = [];
  const put = async (...parts: readonly (readonly [band: number, label: string])[]): Promise<void> => {
    writeParts(
      image,
      BANDS * BAND_256K + 512 * ids.length,
      parts.map(([band, label]) => ({ at: band * BAND_256K, bytes: label === '' ? new Uint8Array(BAND_256K) : fill(label, BAND_256K) })),
    );
    const { session = '' } = await at.sync('work/disk', image, { tags: [`t${ids.length}`] });
    sh('cp', '--sparse=always', image, at.at(`${session}.img`));
    ids.push(session);
  };
  await put([0, 'a'], [1, 'b'], [2, 'c'], [7, 'x'], [550, 'd']);
  await put([1, 'b2'], [3, 'e']);
  await put([1, 'b3'], [2, ''], [551, 'f']);
  await put([1, 'b'], [2, 'c'], [550, 'd2']);
  await put([0, 'a2']);
  return ids;
}

const all = [{ name: 'work/disk', session: undefined }];

async function restores(t: ExecutionContext, at: Lab, repository: Repository, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const target = at.at('restored.img');
    await restoreSession({ session: await openNamed(repository, 'work/disk', id), target, pool });
    t.is(firstWrongByte(target, at.at(`${id}.img`)), undefined, `session ${id}`);
    rmSync(target);
  }
}

/** Bytes that files take, each counted once. */
function diskUse(root: string): number {
  return Number(sh('du', '-s', '-B1', root).split('\t')[0]);
}

const KEYS = [
  { title: 'the same keys', spec: { hasSameKeys: true } },
  { title: 'other keys', spec: { hasSameKeys: false } },
  { title: 'other keys and another cipher', spec: { hasSameKeys: false, cipher: 'chacha20-poly1305' } },
] as const;

for (const { title, spec } of KEYS) {
  test.serial(`${title}: a copy is whole, shares what the original shares, and takes as much room`, async (t) => {
    const at = await lab(t, pool);
    const ids = await history(at);
    const second = await secondRepository(t, at, spec);
    const result = await copySessions(at.repository, second, { requests: all }, { pool });
    t.is(result.hasSameKeys, spec.hasSameKeys);
    t.deepEqual(
      result.sessions.map(({ session, status }) => [session, status]),
      ids.map((id) => [id, 'copied']),
    );
    const [from, to] = [await at.repository.volume('work/disk'), await second.volume('work/disk')];
    t.deepEqual(await to.sessionIds(), ids);
    t.deepEqual([to.id, to.record], [from.id, from.record]);
    t.deepEqual(await sharingOf(to), await sharingOf(from));
    t.deepEqual(await diffsOf(to), await diffsOf(from));
    for (const id of ids) {
      const [a, b] = [(await from.openSession(id)).manifest, (await to.openSession(id)).manifest];
      t.deepEqual([b.startedMs, b.finishedMs, b.source, b.base?.sessionId], [a.startedMs, a.finishedMs, a.source, a.base?.sessionId]);
      t.deepEqual([b.totals.changedBands, b.totals.zeroBands], [a.totals.changedBands, a.totals.zeroBands]);
    }
    await isClean(t, second, pool);
    await restores(t, at, second, ids);
    t.true(Math.abs(diskUse(second.layout.root) - diskUse(at.repo)) < 100_000);
    const verified = await recover(at, ['verify', second.layout.root]);
    t.is(verified.status, 0, verified.stdout + verified.stderr);
    t.deepEqual(readdirSync(to.layout.incoming), []);
    t.deepEqual(readdirSync(second.layout.locks), []);
    t.deepEqual(readdirSync(at.repository.layout.locks), []);
  });

  test.serial(`${title}: whatever order sessions are copied in, none is copied twice and bases are right`, async (t) => {
    const at = await lab(t, pool);
    const ids = await history(at);
    const second = await secondRepository(t, at, spec);
    for (const i of [3, 0, 4, 2, 1]) {
      await copySessions(at.repository, second, { requests: [{ name: 'work/disk', session: ids[i] }] }, { pool });
      await isClean(t, second, pool);
    }
    const [from, to] = [await at.repository.volume('work/disk'), await second.volume('work/disk')];
    t.is(await countFiles(to), await countFiles(from));
    t.deepEqual(await diffsOf(to), await diffsOf(from));
    await restores(t, at, second, ids);
    const { sessions } = await copySessions(at.repository, second, { requests: undefined }, { pool });
    t.true(sessions.length === 5 && sessions.every(({ status }) => status === 'present'));
    writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 9 * BAND_256K, bytes: fill('new', 512) }]);
    await at.sync('work/disk');
    const [next] = (await copySessions(at.repository, second, { requests: all }, { pool })).sessions.filter(({ status }) => status === 'copied');
    t.is(next?.writtenBands, 1);
  });
}

test.serial('the same keys: every file of a session but its labels is the same, with its time', async (t) => {
  const at = await lab(t, pool);
  await history(at);
  const second = await secondRepository(t, at, { hasSameKeys: true });
  await copySessions(at.repository, second, { requests: all }, { pool });
  const list = (root: string): string[] =>
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => /sessions\/.*\/(manifest|bitmap|index\/.*|bands\/.*)$/.test(name))
      .sort();
  const [a, b] = [at.repository.layout.volumes, second.layout.volumes];
  t.deepEqual(list(b), list(a));
  for (const name of list(a)) {
    sameBytes(t, readFileSync(path.join(b, name)), readFileSync(path.join(a, name)), name);
    if (name.includes('/bands/')) t.true(Math.abs(lstatSync(path.join(b, name)).mtimeMs - lstatSync(path.join(a, name)).mtimeMs) < 1);
  }
});

test.serial('tags, note and protection come along; that it was once verified does not, and damaged labels are told', async (t) => {
  const at = await lab(t, pool);
  const [first = '', next = ''] = await history(at);
  const volume = await at.repository.volume('work/disk');
  const labels = { tags: ['a', 'b'], note: 'why', isProtected: true, verified: { atMs: 0, withData: true } };
  await changeLabels(at.repository, { volume, sessionId: first }, () => labels);
  const file = path.join(volume.sessionPath(next), 'labels');
  sh('sh', '-c', `printf x | dd of="${file}" bs=1 seek=40 conv=notrunc status=none`);
  const second = await secondRepository(t, at, { hasSameKeys: true });
  const { warnings } = await copySessions(at.repository, second, { requests: all }, { pool });
  t.deepEqual(await (await second.volume('work/disk')).readLabels(first), { ...labels, verified: undefined });
  t.regex(warnings.join(), new RegExp(`${next} was copied without tags`));
  await isClean(t, second, pool);
});

test.serial('a plain copy (cp -a) of a repository is a repository, takes no more room, and gets later sessions as they are', async (t) => {
  const at = await lab(t, pool);
  await history(at);
  sh('cp', '-a', at.repo, at.at('plain'));
  t.true(Math.abs(diskUse(at.at('plain')) - diskUse(at.repo)) < 100_000);
  const before = await recover(at, ['verify', at.at('plain')]);
  t.is(before.status, 0, before.stdout + before.stderr);
  writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 0, bytes: fill('later', 512) }]);
  await at.ok('sync', `work/disk=${at.at('disk.img')}`);
  const document = await at.json('copy', '--all', '--to', at.at('plain'));
  t.like(document, { status: 'copied', sameKeys: true, warnings: [] });
  t.is(document.sessions.length, 6);
  t.like(document.sessions.at(-1), { status: 'copied', writtenBands: 1 });
  t.is((await at.cli('check', '--data', '--repo', at.at('plain'))).status, 0);
  t.deepEqual(
    await at.json('diff', 'work/disk@t0', 'work/disk@latest', '--repo', at.at('plain')),
    await at.json('diff', 'work/disk@t0', 'work/disk@latest'),
  );
  sh('cp', '-r', at.at('plain'), at.at('unlinked')); // without hardlinks: larger, and as good
  t.true(diskUse(at.at('unlinked')) > 1.5 * diskUse(at.at('plain')));
  t.is((await at.cli('check', '--data', '--repo', at.at('unlinked'))).status, 0);
});

test.serial('random histories, copied in random parts and orders: each session is what it was, and nothing is stored twice', async (t) => {
  const steps = fc.array(fc.array(imageSteps(4700), { minLength: 1, maxLength: 4 }), { minLength: 2, maxLength: 6 });
  const property = fc.asyncProperty(steps, fc.boolean(), fc.array(fc.nat(5), { maxLength: 4 }), async (rounds, hasSameKeys, order) => {
    const at = await lab(t, pool);
    const image = new ModelImage(at.at('disk.img'), 3000, BAND_256K);
    const models: { id: string; bytes: Uint8Array }[] = [];
    for (const round of rounds) {
      for (const step of round) image.apply(step);
      const { session = '' } = await at.sync('disk', image.file, { isForced: true });
      models.push({ id: session, bytes: Uint8Array.from(image.bytes) });
    }
    const second = await secondRepository(t, at, { hasSameKeys });
    const parts = order.map((i) => models[i % models.length]?.id);
    for (const session of [...parts, undefined]) await copySessions(at.repository, second, { requests: [{ name: 'disk', session }] }, { pool });
    await isClean(t, second, pool);
    const [from, to] = [await at.repository.volume('disk'), await second.volume('disk')];
    const [kept, copied] = [await countFiles(from), await countFiles(to)];
    t.is(copied, kept, 'files');
    t.deepEqual(await diffsOf(to), await diffsOf(from));
    for (const { id, bytes } of models) {
      const target = at.at(`${id}.out`);
      await restoreSession({ session: await to.openSession(id), target, pool });
      sameBytes(t, readPart(target, 0, bytes.length + 1), bytes, id);
    }
  });
  await fc.assert(property, { numRuns: 8 });
});

test.serial('a volume that was renamed there stays renamed; one of another origin is never mixed with it', async (t) => {
  const at = await lab(t, pool);
  await history(at);
  const second = await secondRepository(t, at, { hasSameKeys: false });
  await copySessions(at.repository, second, { requests: [{ name: 'work/disk', session: 't0' }] }, { pool });
  await second.changeVolume(await second.volume('work/disk'), (record) => ({ ...record, name: 'there' }));
  await copySessions(at.repository, second, { requests: all }, { pool });
  t.is((await (await second.volume('there')).sessionIds()).length, 5);
  const third = await secondRepository(t, at, { name: 'third', hasSameKeys: true });
  await third.createVolume('work/disk');
  t.is(await codeOf(() => copySessions(at.repository, third, { requests: all }, { pool })), 'VOLUME_EXISTS');
  t.is(await codeOf(() => copySessions(at.repository, at.repository, { requests: all }, { pool })), 'USAGE');
  sh('ln', '-s', at.repo, at.at('link'));
  t.like(await at.cli('copy', 'work/disk', '--to', at.at('link')), { status: 2 });
});

test.serial('a band file that the target has lost is not linked but copied again', async (t) => {
  for (const hasSameKeys of [true, false]) {
    const at = await lab(t, pool);
    const ids = await history(at);
    const second = await secondRepository(t, at, { hasSameKeys });
    await copySessions(at.repository, second, { requests: [{ name: 'work/disk', session: ids[0] }] }, { pool });
    rmSync((await openNamed(second, 'work/disk')).bandPaths(7, 1)[0] ?? '');
    const { sessions } = await copySessions(at.repository, second, { requests: [{ name: 'work/disk', session: ids[1] }] }, { pool });
    t.like(sessions[0], { writtenBands: 3, linkedBands: 3 });
    await restores(t, at, second, ids.slice(1, 2));
  }
});

test.serial('an index page that the target has lost shares nothing, and does not keep later sessions from being copied', async (t) => {
  const at = await lab(t, pool);
  const ids = await history(at);
  const second = await secondRepository(t, at, { hasSameKeys: true });
  await copySessions(at.repository, second, { requests: [{ name: 'work/disk', session: ids[0] }] }, { pool });
  rmSync((await openNamed(second, 'work/disk')).pagePath(0));
  const { sessions } = await copySessions(at.repository, second, { requests: [{ name: 'work/disk', session: ids[1] }] }, { pool });
  t.like(sessions[0], { writtenBands: 5, linkedBands: 1 });
  await restores(t, at, second, ids.slice(1, 2));
});

test.serial('a session of the same id that is another one, or damaged, is left alone, and nothing is copied', async (t) => {
  const at = await lab(t, pool);
  const sync = (repository: Repository, label: string) => {
    writeParts(at.at(label), 4 * BAND_256K, [{ at: 0, bytes: fill(label, 512) }]);
    return syncVolume(repository, { name: 'work/disk', location: at.at(label) }, { pool, nowMs: () => 1_800_000_000_000 });
  };
  await sync(at.repository, 'one');
  const second = await secondRepository(t, at, { hasSameKeys: false });
  const volume = await second.createVolume('work/disk', { copyOf: await at.repository.volume('work/disk') });
  const { session = '' } = await sync(second, 'two');
  t.deepEqual(await (await at.repository.volume('work/disk')).sessionIds(), [session]);
  const { manifestDigest } = await openNamed(second, 'work/disk');
  t.is(await codeOf(() => copySessions(at.repository, second, { requests: all }, { pool })), 'TARGET_EXISTS');
  t.deepEqual((await openNamed(second, 'work/disk')).manifestDigest, manifestDigest);
  rmSync(path.join(volume.sessionPath(session), 'manifest'));
  t.is(await codeOf(() => copySessions(at.repository, second, { requests: all }, { pool })), 'RECORD_MISSING');
});
