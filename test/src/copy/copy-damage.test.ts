/** What is damaged in the source never gets into a copy, and a target that was rolled back is noticed. */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TimebandError } from '../../../bands/errors.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { Catalog } from '../../../src/catalog.ts';
import { checkRepository } from '../../../src/check/check.ts';
import { type CopyOptions, copySessions, type SessionOutcome } from '../../../src/copy/copy.ts';
import { acquireForDeletion } from '../../../src/leases.ts';
import { repairRepository } from '../../../src/repair/repair.ts';
import type { Repository } from '../../../src/repository.ts';
import { restoreSession } from '../../../src/restore.ts';
import { fill, flipBit, sameBytes } from '../../support/bytes.ts';
import { isClean, secondRepository } from '../../support/copies.ts';
import { BAND_256K, codeOf, type Lab, lab, openNamed } from '../../support/library.ts';
import { firstWrongByte, writeParts } from '../../support/parts.ts';
import { incomingFiles } from '../../support/processes.ts';
import { sh } from '../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Three sessions of eight bands: the second has band 3 of its own, the third band 5. */
async function three(t: ExecutionContext): Promise<{ at: Lab; ids: string[] }> {
  const at = await lab(t, pool);
  const ids: string[] = [];
  for (const [band, count] of [
    [0, 8],
    [3, 1],
    [5, 1],
  ] as const) {
    writeParts(at.at('disk.img'), 8 * BAND_256K, [{ at: band * BAND_256K, bytes: fill(`${ids.length}`, count * BAND_256K) }]);
    ids.push((await at.sync('disk', at.at('disk.img'))).session ?? '');
    sh('cp', at.at('disk.img'), at.at(`${ids.at(-1)}.img`));
  }
  return { at, ids };
}

function copy(at: Lab, second: Repository, options: Partial<CopyOptions> = {}): ReturnType<typeof copySessions> {
  return copySessions(at.repository, second, { requests: [{ name: 'disk', session: undefined }], ...options }, { pool });
}

/** Band files are shared: a damaged copy takes the place of one name only. */
function damage(file: string, change: (bytes: Uint8Array) => Uint8Array): void {
  const bytes = readFileSync(file);
  rmSync(file);
  writeFileSync(file, change(bytes));
}

const status = ({ session, status }: SessionOutcome): string[] => [session, status];

type Damage = readonly [what: string, damage: (file: string) => void];
const DAMAGES: readonly Damage[] = [
  ['missing', (file) => rmSync(file)],
  ['cut', (file) => damage(file, (bytes) => bytes.subarray(0, -7))],
  ['turned in one bit', (file) => damage(file, (bytes) => flipBit(bytes, 8 * 70_000))],
  ['full of zeros', (file) => damage(file, (bytes) => new Uint8Array(bytes.length))],
];

for (const hasSameKeys of [true, false]) {
  const keys = hasSameKeys ? 'the same keys' : 'other keys';
  for (const [what, harm] of DAMAGES) {
    test.serial(`${keys}, a band that is ${what}: the copy stops and names it; --keep-going copies the other sessions`, async (t) => {
      const { at, ids } = await three(t);
      const second = await secondRepository(t, at, { hasSameKeys });
      harm((await at.session('disk', ids[1])).bandPaths(3, 1)[0] ?? '');
      const error = await t.throwsAsync(copy(at, second), { instanceOf: TimebandError });
      t.is(error?.code, what === 'missing' ? 'BAND_MISSING' : 'BAND_CORRUPT');
      t.regex(error?.message ?? '', new RegExp(`disk@${ids[1]} is damaged.*band 3 \\(bytes 786432-1048575\\).*1 session\\(s\\) copied before stay`));
      t.deepEqual(await (await second.volume('disk')).sessionIds(), ids.slice(0, 1));
      t.deepEqual(incomingFiles(second.layout.root), []);
      const { sessions } = await copy(at, second, { isKeepGoing: true });
      t.deepEqual(sessions.map(status), [
        [ids[0], 'present'],
        [ids[1], 'damaged'],
        [ids[2], 'copied'],
      ]);
      await isClean(t, second, pool);
      await restoreSession({ session: await openNamed(second, 'disk'), target: at.at('out'), pool });
      t.is(firstWrongByte(at.at('out'), at.at(`${ids[2]}.img`)), undefined);
    });
  }

  test.serial(`${keys}, records: what the copy needs and cannot be read stops it, and nothing of the session is there`, async (t) => {
    for (const record of ['manifest', 'index', 'bitmap']) {
      const { at, ids } = await three(t);
      const second = await secondRepository(t, at, { hasSameKeys });
      const session = await at.session('disk', ids[2]);
      damage(record === 'index' ? session.pagePath(0) : path.join(session.directory, record), (bytes) => flipBit(bytes, 8 * 40));
      const isNeeded = hasSameKeys || record !== 'bitmap';
      t.is(await codeOf(() => copy(at, second)), isNeeded ? 'RECORD_CORRUPT' : undefined, record);
      t.is((await (await second.volume('disk')).sessionIds()).length, isNeeded ? 2 : 3, record);
      t.deepEqual(incomingFiles(second.layout.root), []);
      await isClean(t, second, pool);
    }
  });
}

test.serial('a copy of which nothing comes about leaves no volume', async (t) => {
  const { at, ids } = await three(t);
  const second = await secondRepository(t, at, { hasSameKeys: false });
  rmSync((await at.session('disk', ids[0])).bandPaths(0, 1)[0] ?? '');
  t.is(await codeOf(() => copy(at, second)), 'BAND_MISSING');
  t.deepEqual((await second.listVolumes()).volumes, []);
  for (const id of ids) rmSync((await at.session('disk', id)).bandPaths(1, 1)[0] ?? '');
  const { isComplete, sessions } = await copy(at, second, { isKeepGoing: true });
  t.deepEqual([isComplete, sessions.map(({ status }) => status)], [false, ['damaged', 'damaged', 'damaged']]);
  t.deepEqual((await second.listVolumes()).volumes, []);
});

test.serial('--all with a volume that cannot be read: refused, or left out with status 3', async (t) => {
  const { at } = await three(t);
  await at.sync('other', at.at('disk.img'));
  rmSync((await at.repository.volume('other')).layout.record);
  const second = await secondRepository(t, at, { hasSameKeys: true });
  t.is((await at.cli('copy', '--all', '--to', second.layout.root)).status, 13);
  t.deepEqual((await second.listVolumes()).volumes, []);
  const { status, stderr } = await at.cli('copy', '--all', '--keep-going', '--to', second.layout.root);
  t.is(status, 3, stderr);
  t.is((await (await second.volume('disk')).sessionIds()).length, 3);
});

test.serial('a session that is copied is leased, one that is being deleted is not begun, a target that somebody writes to is locked', async (t) => {
  const { at, ids } = await three(t);
  const second = await secondRepository(t, at, { hasSameKeys: true });
  const { locks } = at.repository.layout;
  const leased = new Set<string>();
  const onProgress = (): void => {
    for (const name of readdirSync(locks)) leased.add(name.replace(/^(read)-[0-9a-f]{32}-(.*)-(.*)\..*\.json$/, '$1 $2.$3'));
  };
  await copy(at, second, { requests: [{ name: 'disk', session: ids[0] }], onProgress });
  t.deepEqual([...leased], [`read ${ids[0]}`]);
  const volume = await at.repository.volume('disk');
  const deletion = await acquireForDeletion({ locks, volume: 'disk', volumeId: volume.id, sessionId: ids[1] ?? '', command: 'delete' });
  t.is(await codeOf(() => copy(at, second)), 'LOCKED');
  await deletion.release();
  await using _lock = await second.lockVolume(await second.volume('disk'), 'sync');
  t.is(await codeOf(() => copy(at, second)), 'LOCKED');
  t.deepEqual(await (await second.volume('disk')).sessionIds(), ids.slice(0, 1));
});

test.serial('a session that is deleted before its turn is told, and the others are copied', async (t) => {
  const { at, ids } = await three(t);
  const second = await secondRepository(t, at, { hasSameKeys: true });
  const volume = await at.repository.volume('disk');
  const doomed = volume.sessionPath(ids[1] ?? '');
  const onProgress = (): void => {
    if (existsSync(doomed)) renameSync(doomed, path.join(at.repository.layout.trash, 'deleted'));
  };
  const { sessions } = await copy(at, second, { onProgress });
  t.deepEqual(sessions.map(status), [
    [ids[0], 'copied'],
    [ids[1], 'gone'],
    [ids[2], 'copied'],
  ]);
  await isClean(t, second, pool);
});

for (const hasSameKeys of [true, false]) {
  test.serial(
    `${hasSameKeys ? 'the same keys' : 'other keys'}: what the target knows to be damaged there is not linked, but brought once`,
    async (t) => {
      const { at, ids } = await three(t);
      const second = await secondRepository(t, at, { hasSameKeys });
      await copy(at, second, { requests: [{ name: 'disk', session: ids[0] }] });
      const file = (await openNamed(second, 'disk', ids[0])).bandPaths(1, 1)[0] ?? '';
      damage(file, (bytes) => flipBit(bytes, 8 * 70_000));
      t.is((await repairRepository(second, { pool, withData: true })).listedBands, 1);
      const { sessions } = await copy(at, second);
      t.deepEqual(
        sessions.map(({ status, writtenBands }) => [status, writtenBands]),
        [
          ['present', 0],
          ['copied', 2],
          ['copied', 1],
        ],
      );
      const { findings } = await checkRepository(second, { pool, withData: true });
      t.deepEqual([...new Set(findings.map(({ session }) => session))], [ids[0]]);
      await restoreSession({ session: await openNamed(second, 'disk'), target: at.at('out'), pool });
      t.is(firstWrongByte(at.at('out'), at.at(`${ids[2]}.img`)), undefined);
      t.is((await repairRepository(second, { pool, withData: true })).mendedBands, 1, 'from the one that was brought');
      await isClean(t, second, pool);
    },
  );
}

/** Copies with a catalog of the target. */
async function guarded(at: Lab, second: Repository, options: Partial<CopyOptions> = {}): ReturnType<typeof copySessions> {
  await using targetCatalog = new Catalog(at.at('state'), second.id, () => undefined);
  return await copySessions(at.repository, second, { requests: [{ name: 'disk', session: undefined }], ...options }, { pool, targetCatalog });
}

for (const hasSameKeys of [true, false]) {
  test.serial(
    `a target that lost its newest session (${hasSameKeys ? 'the same' : 'other'} keys): ${hasSameKeys ? 'the same one comes back' : 'the user is asked'}`,
    async (t) => {
      const { at, ids } = await three(t);
      const second = await secondRepository(t, at, { hasSameKeys });
      await guarded(at, second);
      const volume = await second.volume('disk');
      rmSync(volume.sessionPath(ids[2] ?? ''), { recursive: true });
      t.is(await codeOf(() => guarded(at, second, { requests: [{ name: 'disk', session: ids[1] }] })), undefined, 'nothing is to be done');
      if (!hasSameKeys) t.is(await codeOf(() => guarded(at, second)), 'ROLLBACK_DETECTED');
      t.is(await codeOf(() => guarded(at, second, { acceptsRollback: !hasSameKeys })), undefined);
      await using catalog = new Catalog(at.at('state'), second.id, t.fail);
      const remembered = await catalog.newest(volume.id);
      sameBytes(t, remembered?.manifestDigest ?? new Uint8Array(0), (await volume.openSession(ids[2] ?? '')).manifestDigest);
    },
  );
}

test.serial('a source that was rolled back is told', async (t) => {
  const { at, ids } = await three(t);
  const second = await secondRepository(t, at, { hasSameKeys: true });
  await using sourceCatalog = new Catalog(at.at('state'), at.repository.id, t.fail);
  const volume = await at.repository.volume('disk');
  await sourceCatalog.rememberNewest(volume.id, await volume.openSession(ids[2] ?? ''));
  rmSync(volume.sessionPath(ids[2] ?? ''), { recursive: true });
  const { warnings, sessions } = await copySessions(at.repository, second, { requests: undefined }, { pool, sourceCatalog });
  t.regex(warnings.join(), /newest session of "disk" that this machine has seen/);
  t.is(sessions.length, 2);
});
