/** Whole, well-sealed files in the wrong place: what an attacker with the disk, or a restored half, would leave. */
import { cpSync, linkSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { type ByteRange, bandLengthOf } from '../../bands/format/geometry.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { copyOver, type Place, type Scene, setScene, swap } from './damage/scene.ts';
import { BAND, makeTemplate, type Template, type VolumeName } from './damage/template.ts';
import { type Expected, exitOf, verifyDamage } from './damage/verify.ts';

const pool: BandPool = new BandPool();
let template: Template;

test.before('the repository that all cases start from', async () => {
  template = await makeTemplate(pool);
});

test.after.always(async () => {
  template.remove();
  await pool.close();
});

const SMALL_BYTES = 6 * BAND + 100 * 512;

function small(session: number, kind: Place['kind'], number = 0): Place {
  return { volume: 'small', session, kind, number };
}

function bands(first: number, count: number): ByteRange {
  const last = first + count - 1;
  return { offset: first * BAND, length: (count - 1) * BAND + bandLengthOf(last, SMALL_BYTES, BAND) };
}

function putLink(from: string, to: string): void {
  rmSync(to);
  linkSync(from, to);
}

interface Exchange {
  readonly title: string;
  readonly exchange: (scene: Scene) => void;
  readonly volume?: VolumeName;
  /** The one session that is damaged by it. */
  readonly session: number;
  readonly lost: Expected['lost'];
}

/** Puts a copy of `from` in the place of `to`. */
function copied(from: Place, to: Place): (scene: Scene) => void {
  return (scene) => copyOver(scene.file(from), scene.file(to));
}

const other = (session: number, kind: Place['kind'], number = 0): Place => ({ volume: 'other', session, kind, number });
const paged = (session: number, number: number): Place => ({ volume: 'paged', session, kind: 'index page', number });

const EXCHANGES: readonly Exchange[] = [
  {
    title: 'two bands of a session that change places',
    exchange: (scene) => swap(scene.file(small(1, 'band', 0)), scene.file(small(1, 'band', 1))),
    session: 1,
    lost: bands(0, 2),
  },
  { title: 'a band in the place of another one', exchange: copied(small(2, 'band', 3), small(2, 'band', 5)), session: 2, lost: bands(5, 1) },
  {
    title: "an older session's band in place of a newer one's",
    exchange: copied(small(0, 'band', 0), small(1, 'band', 0)),
    session: 1,
    lost: bands(0, 1),
  },
  {
    title: "an older session's band linked in place of a newer one's",
    exchange: (scene) => putLink(scene.file(small(0, 'band', 0)), scene.file(small(1, 'band', 0))),
    session: 1,
    lost: bands(0, 1),
  },
  {
    title: "a newer session's band linked in place of an older one's",
    exchange: (scene) => putLink(scene.file(small(2, 'band', 0)), scene.file(small(1, 'band', 0))),
    session: 1,
    lost: bands(0, 1),
  },
  { title: "another volume's band of the same content", exchange: copied(other(1, 'band', 3), small(1, 'band', 3)), session: 1, lost: bands(3, 1) },
  { title: "an older session's index page", exchange: copied(small(0, 'index page'), small(1, 'index page')), session: 1, lost: bands(0, 7) },
  { title: "another volume's index page", exchange: copied(other(1, 'index page'), small(1, 'index page')), session: 1, lost: bands(0, 7) },
  {
    title: 'an older index page beside a right one',
    exchange: copied(paged(0, 1), paged(1, 1)),
    volume: 'paged',
    session: 1,
    lost: { offset: 512 * BAND, length: BAND + 100 * 512 },
  },
  {
    title: "a session's first index page in place of its second",
    exchange: copied(paged(1, 0), paged(1, 1)),
    volume: 'paged',
    session: 1,
    lost: { offset: 512 * BAND, length: BAND + 100 * 512 },
  },
  { title: "another session's manifest", exchange: copied(small(0, 'manifest'), small(1, 'manifest')), session: 1, lost: 'manifest' },
  { title: "another volume's manifest", exchange: copied(other(1, 'manifest'), small(1, 'manifest')), session: 1, lost: 'manifest' },
  { title: "another session's bitmap", exchange: copied(small(0, 'bitmap'), small(1, 'bitmap')), session: 1, lost: undefined },
  { title: "another session's labels", exchange: copied(small(0, 'labels'), small(1, 'labels')), session: 1, lost: undefined },
  { title: 'a bitmap in place of the manifest', exchange: copied(small(1, 'bitmap'), small(1, 'manifest')), session: 1, lost: 'manifest' },
];

for (const { title, exchange, volume = 'small', session, lost } of EXCHANGES) {
  test.serial(`${title}: only that session is named, and no wrong byte is given`, async (t) => {
    const scene = await setScene(t, template);
    exchange(scene);
    await verifyDamage(t, scene, { volume, sessions: new Set([session]), lost, withoutKey: new Set() }, pool);
  });
}

test.serial('a session under the name of another time cannot be opened, and check names it', async (t) => {
  const scene = await setScene(t, template);
  const { directory } = await scene.open('small', 1);
  const name = '20991231T235959.999Z';
  cpSync(directory, path.join(path.dirname(directory), name), { recursive: true });
  const { findings } = await checkRepository(scene.repository, { pool });
  t.deepEqual(
    findings.map((one) => [one.session, one.code]),
    [[name, 'RECORD_CORRUPT']],
  );
  const volume = await scene.repository.volume('small');
  t.is(await exitOf(() => volume.openSession(name)), 13);
});

test.serial("another volume's session cannot be opened, and check names it", async (t) => {
  const scene = await setScene(t, template);
  const { directory } = await scene.open('small', 2);
  const foreign = (await scene.open('other', 1)).directory;
  renameSync(foreign, path.join(path.dirname(directory), path.basename(foreign)));
  const { findings } = await checkRepository(scene.repository, { pool });
  t.deepEqual(
    findings.map((one) => [one.volume, one.session, one.code]),
    [['small', path.basename(foreign), 'RECORD_CORRUPT']],
  );
});

test.serial('the volume records of two volumes that change places are refused both', async (t) => {
  const scene = await setScene(t, template);
  swap(scene.file(small(0, 'volume record')), scene.file(other(0, 'volume record')));
  const { volumes, damaged } = await scene.repository.listVolumes();
  t.deepEqual(
    volumes.map(({ name }) => name),
    ['paged'],
  );
  t.deepEqual(
    damaged.map(({ error }) => error.code),
    ['RECORD_CORRUPT', 'RECORD_CORRUPT'],
  );
});

test.serial('a band file that became another inode with the same bytes is as good as before', async (t) => {
  const scene = await setScene(t, template);
  copyOver(scene.file(small(1, 'band', 3)), scene.file(small(2, 'band', 3)));
  t.deepEqual((await checkRepository(scene.repository, { pool, withData: true })).findings, []);
});
