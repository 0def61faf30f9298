/** The recovery script on damaged repositories: it finds what Timeband finds, and gives no wrong byte. */
import { copyFileSync, existsSync, lstatSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ByteRange, bandLengthOf } from '../../bands/format/geometry.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { firstWrongByte } from '../support/parts.ts';
import { damagedTitles, missingRanges, recover } from '../support/recover.ts';
import { sh } from '../support/workspace.ts';
import { copyOver, DAMAGES, type Damage, type Place, type Scene, setScene, sharers, swap } from './damage/scene.ts';
import { BAND, makeTemplate, type Template, type VolumeName } from './damage/template.ts';

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
const SMALL: ByteRange = { offset: 0, length: SMALL_BYTES };

function bandRange(bandIndex: number): ByteRange {
  return { offset: bandIndex * BAND, length: bandLengthOf(bandIndex, SMALL_BYTES, BAND) };
}

/** What is lost of a session: a range, all of it because its manifest is, or nothing. */
type Lost = ByteRange | 'manifest' | undefined;

interface Expected {
  readonly volume: VolumeName;
  readonly session: number;
  /** Numbers of the sessions that `verify` names. */
  readonly damaged: ReadonlySet<number>;
  readonly lost: Lost;
  /** What a restore without --keep-going exits with. */
  readonly status: number;
}

function titleOf(scene: Scene, volume: VolumeName, session: number): string {
  return `${volume}@${scene.id(volume, session)}`;
}

function imageOf(scene: Scene, volume: VolumeName, session: number): string {
  return scene.template.sessions[volume][session]?.image ?? '';
}

async function verifyRecovery(t: ExecutionContext, scene: Scene, expected: Expected): Promise<void> {
  const { volume, session, damaged, lost, status } = expected;
  const verified = await recover(scene, ['verify', scene.repo, volume]);
  t.is(verified.status, damaged.size === 0 ? 0 : 3, verified.stdout + verified.stderr);
  t.deepEqual(damagedTitles(verified), [...damaged].map((i) => titleOf(scene, volume, i)).sort());
  const [title, image, target] = [titleOf(scene, volume, session), imageOf(scene, volume, session), scene.at('restored.img')];
  const restored = await recover(scene, ['restore', scene.repo, title, target]);
  t.is(restored.status, status, restored.stderr);
  if (status === 13) t.false(existsSync(target), 'a restore that fails leaves no file');
  else t.is(firstWrongByte(target, image), undefined, 'a restore that succeeds is right');
  rmSync(target, { force: true });
  const rest = await recover(scene, ['restore', scene.repo, title, target, '--keep-going']);
  t.is(rest.status, lost === 'manifest' ? 13 : status === 0 ? 0 : 3, rest.stderr);
  if (typeof lost === 'object' || lost === undefined) {
    const missing = missingRanges(rest);
    t.true(missing.every(({ offset, length }) => lost !== undefined && offset >= lost.offset && offset + length <= lost.offset + lost.length));
    t.is(firstWrongByte(target, image, missing), undefined, '--keep-going gives the rest, and zeros');
  }
  t.deepEqual(
    readdirSync(scene.root).filter((name) => name.startsWith('.tmp-')),
    [],
    'no unfinished file stays',
  );
}

const PLACES: readonly { readonly what: string; readonly place: Place; readonly lost: Lost; readonly isTriedInAllWays?: boolean }[] = [
  { what: 'a manifest', place: { volume: 'small', session: 1, kind: 'manifest' }, lost: 'manifest', isTriedInAllWays: true },
  { what: 'labels', place: { volume: 'small', session: 1, kind: 'labels' }, lost: undefined },
  { what: 'a bitmap', place: { volume: 'small', session: 1, kind: 'bitmap' }, lost: undefined },
  { what: 'the only index page', place: { volume: 'small', session: 1, kind: 'index page' }, lost: SMALL },
  {
    what: 'a second index page that two sessions share',
    place: { volume: 'paged', session: 2, kind: 'index page', number: 1 },
    lost: { offset: 512 * BAND, length: BAND + 100 * 512 },
  },
  {
    what: 'a band of one session',
    place: { volume: 'small', session: 1, kind: 'band', number: 0 },
    lost: bandRange(0),
    isTriedInAllWays: true,
  },
  { what: 'a band that all sessions share', place: { volume: 'small', session: 1, kind: 'band', number: 1 }, lost: bandRange(1) },
  { what: 'the part of a band at the end', place: { volume: 'small', session: 2, kind: 'band', number: 6 }, lost: bandRange(6) },
];

function isTried(place: Place, damage: Damage, isTriedInAllWays: boolean): boolean {
  if (place.kind === 'labels' && damage.name === 'nothing in its place') return false;
  return isTriedInAllWays || /middle|half|nothing in its place|link|pipe/.test(damage.name);
}

/** What a restore of the damaged session exits with. */
function restoreStatus(place: Place, damage: Damage): number {
  if (place.kind === 'labels' || place.kind === 'bitmap') return 0; // an image needs neither
  return place.kind === 'band' && damage.name === 'its last byte turned' ? 3 : 13; // the checksum alone: all is proven
}

for (const { what, place, lost, isTriedInAllWays = false } of PLACES) {
  for (const damage of DAMAGES.filter((one) => isTried(place, one, isTriedInAllWays))) {
    test.serial(`${what} with ${damage.name} is found without Timeband`, async (t) => {
      const scene = await setScene(t, template);
      const damaged = damage.isShared ? sharers(scene, place) : new Set([place.session]);
      damage.apply(scene.file(place));
      await verifyRecovery(t, scene, { ...place, damaged, lost, status: restoreStatus(place, damage) });
    });
  }
}

interface Exchange {
  readonly title: string;
  readonly apply: (scene: Scene) => void;
  readonly damaged: readonly number[];
  readonly lost: Lost;
  readonly status?: number;
}

/** All of session 1 of the volume `small`. */
const EXCHANGES: readonly Exchange[] = [
  {
    title: 'two bands swapped',
    apply: (scene) =>
      swap(
        scene.file({ volume: 'small', session: 1, kind: 'band', number: 0 }),
        scene.file({ volume: 'small', session: 1, kind: 'band', number: 1 }),
      ),
    damaged: [1],
    lost: { offset: 0, length: 2 * BAND },
  },
  {
    title: 'an older band',
    apply: (scene) =>
      copyOver(
        scene.file({ volume: 'small', session: 0, kind: 'band', number: 0 }),
        scene.file({ volume: 'small', session: 1, kind: 'band', number: 0 }),
      ),
    damaged: [1],
    lost: bandRange(0),
  },
  {
    title: 'a band of another volume',
    apply: (scene) =>
      copyOver(
        scene.file({ volume: 'other', session: 1, kind: 'band', number: 0 }),
        scene.file({ volume: 'small', session: 1, kind: 'band', number: 0 }),
      ),
    damaged: [1],
    lost: bandRange(0),
  },
  {
    title: 'an older index page',
    apply: (scene) =>
      copyOver(scene.file({ volume: 'small', session: 0, kind: 'index page' }), scene.file({ volume: 'small', session: 1, kind: 'index page' })),
    damaged: [1],
    lost: SMALL,
  },
  {
    title: "another volume's manifest",
    apply: (scene) =>
      copyOver(scene.file({ volume: 'other', session: 1, kind: 'manifest' }), scene.file({ volume: 'small', session: 1, kind: 'manifest' })),
    damaged: [1],
    lost: 'manifest',
  },
  {
    title: "an older session's manifest",
    apply: (scene) =>
      copyOver(scene.file({ volume: 'small', session: 0, kind: 'manifest' }), scene.file({ volume: 'small', session: 1, kind: 'manifest' })),
    damaged: [1],
    lost: 'manifest',
  },
  {
    title: "an older session's bitmap and labels",
    apply: (scene) => {
      for (const kind of ['bitmap', 'labels'] as const)
        copyOver(scene.file({ volume: 'small', session: 0, kind }), scene.file({ volume: 'small', session: 1, kind }));
    },
    damaged: [1],
    lost: undefined,
    status: 0,
  },
];

for (const { title, apply, damaged, lost, status = 13 } of EXCHANGES) {
  test.serial(`${title} in a session's place is found without Timeband`, async (t) => {
    const scene = await setScene(t, template);
    apply(scene);
    await verifyRecovery(t, scene, { volume: 'small', session: 1, damaged: new Set(damaged), lost, status });
  });
}

test.serial('folders that are links are not followed', async (t) => {
  for (const folder of ['bands', 'index', '.']) {
    const scene = await setScene(t, template);
    const session = path.dirname(scene.file({ volume: 'small', session: 1, kind: 'manifest' }));
    const moved = path.join(session, folder);
    sh('mv', moved === `${session}/.` ? session : moved, scene.at('elsewhere'));
    symlinkSync(scene.at('elsewhere'), path.normalize(moved).replace(/\/$/, ''));
    const verified = await recover(scene, ['verify', scene.repo, 'small']);
    t.deepEqual(damagedTitles(verified), [titleOf(scene, 'small', 1)], folder);
    t.is((await recover(scene, ['restore', scene.repo, titleOf(scene, 'small', 1), scene.at('out.img')])).status, 13, folder);
  }
});

test.serial('damage in a chunk costs that chunk alone', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES.find(({ name }) => /middle/.test(name))?.apply(scene.file({ volume: 'small', session: 0, kind: 'band', number: 0 }));
  const kept = await recover(scene, ['restore', scene.repo, titleOf(scene, 'small', 0), scene.at('out.img'), '--keep-going']);
  t.is(kept.status, 3);
  t.deepEqual(missingRanges(kept), [{ offset: 0, length: 131_072 }]);
  t.is(firstWrongByte(scene.at('out.img'), imageOf(scene, 'small', 0), missingRanges(kept)), undefined);
});

test.serial('--keep-going with the program zstd gives the same as with the module', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES.find(({ name }) => /half/.test(name))?.apply(scene.file({ volume: 'small', session: 0, kind: 'band', number: 0 }));
  for (const zstd of ['module', 'program'] as const) {
    const target = scene.at(`${zstd}.img`);
    t.is((await recover(scene, ['restore', scene.repo, titleOf(scene, 'small', 0), target, '--keep-going'], { zstd })).status, 3);
  }
  t.is(firstWrongByte(scene.at('module.img'), scene.at('program.img')), undefined);
});

interface Salvage {
  readonly title: string;
  readonly lose: (scene: Scene) => readonly string[];
  /** Whether the image keeps its size without --size. */
  readonly hasSize: boolean;
  /** Whether bands of zeros are known as such. */
  readonly hasIndex: boolean;
}

const small = (scene: Scene, kind: Place['kind']): string => scene.file({ volume: 'small', session: 1, kind });

const SALVAGES: readonly Salvage[] = [
  { title: 'the manifest', lose: (scene) => [small(scene, 'manifest')], hasSize: false, hasIndex: true },
  { title: 'the index', lose: (scene) => [small(scene, 'index page')], hasSize: true, hasIndex: false },
  { title: 'manifest and index', lose: (scene) => [small(scene, 'manifest'), small(scene, 'index page')], hasSize: false, hasIndex: false },
  {
    title: 'manifest, index and volume record',
    lose: (scene) => [small(scene, 'manifest'), small(scene, 'index page'), small(scene, 'volume record')],
    hasSize: false,
    hasIndex: false,
  },
];

for (const { title, lose, hasSize, hasIndex } of SALVAGES) {
  test.serial(`--salvage gives the bands of a session that has lost ${title}, and says that it is unproven`, async (t) => {
    const scene = await setScene(t, template);
    const image = imageOf(scene, 'small', 1);
    const volume = path.basename(path.dirname(small(scene, 'volume record')));
    for (const file of lose(scene)) rmSync(file);
    const from = `${existsSync(path.join(scene.repo, 'volumes', volume, 'volume')) ? 'small' : volume}@${scene.id('small', 1)}`;
    t.is((await recover(scene, ['restore', scene.repo, from, scene.at('strict.img')])).status, 13);
    const salvaged = await recover(scene, ['restore', scene.repo, from, scene.at('out.img'), '--salvage']);
    t.is(salvaged.status, 3, salvaged.stderr);
    t.regex(salvaged.stderr, /SALVAGED, NOT VERIFIED/);
    t.is(lstatSync(scene.at('out.img')).size, hasSize ? SMALL_BYTES : 7 * BAND);
    const sized = await recover(scene, ['restore', scene.repo, from, scene.at('sized.img'), '--salvage', '--size', `${SMALL_BYTES}`]);
    t.is(sized.status, 3, sized.stderr);
    t.is(firstWrongByte(scene.at('sized.img'), image), undefined, 'every band that the session has is in its place');
    t.deepEqual(missingRanges(sized), hasIndex ? [] : [bandRange(2)], 'without an index nothing tells a band of zeros from a lost one');
  });
}

test.serial('--salvage refuses a band that is altered, and lists it', async (t) => {
  const scene = await setScene(t, template);
  const file = scene.file({ volume: 'small', session: 1, kind: 'band', number: 0 });
  copyFileSync(scene.file({ volume: 'other', session: 1, kind: 'band', number: 0 }), scene.at('foreign'));
  rmSync(file);
  copyFileSync(scene.at('foreign'), file);
  for (const kind of ['manifest', 'index page'] as const) rmSync(small(scene, kind));
  const salvaged = await recover(scene, ['restore', scene.repo, titleOf(scene, 'small', 1), scene.at('out.img'), '--salvage']);
  t.is(salvaged.status, 3);
  t.deepEqual(missingRanges(salvaged), [bandRange(0), bandRange(2)]);
});
