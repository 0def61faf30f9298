/** Every kind of file, damaged in every way: it is noticed, located, and never turns into wrong bytes. */
import test from 'ava';
import { type ByteRange, bandLengthOf } from '../../bands/format/geometry.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { DAMAGES, type Damage, type Place, setScene, sharers } from './damage/scene.ts';
import { BAND, makeTemplate, type Template } from './damage/template.ts';
import { type Expected, verifyDamage } from './damage/verify.ts';

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

function bandRange(bandIndex: number): ByteRange {
  return { offset: bandIndex * BAND, length: bandLengthOf(bandIndex, SMALL_BYTES, BAND) };
}

const PLACES: readonly { readonly what: string; readonly place: Place; readonly lost: Expected['lost'] }[] = [
  { what: 'a manifest', place: { volume: 'small', session: 1, kind: 'manifest' }, lost: 'manifest' },
  { what: 'labels', place: { volume: 'small', session: 1, kind: 'labels' }, lost: undefined },
  { what: 'a bitmap', place: { volume: 'small', session: 1, kind: 'bitmap' }, lost: undefined },
  { what: 'the only index page', place: { volume: 'small', session: 1, kind: 'index page' }, lost: { offset: 0, length: SMALL_BYTES } },
  {
    what: 'a second index page that two sessions share',
    place: { volume: 'paged', session: 2, kind: 'index page', number: 1 },
    lost: { offset: 512 * BAND, length: BAND + 100 * 512 },
  },
  { what: 'a band of one session', place: { volume: 'small', session: 1, kind: 'band', number: 0 }, lost: bandRange(0) },
  { what: 'a band that all sessions share', place: { volume: 'small', session: 1, kind: 'band', number: 1 }, lost: bandRange(1) },
  { what: 'a band that compresses well', place: { volume: 'small', session: 2, kind: 'band', number: 4 }, lost: bandRange(4) },
  { what: 'the part of a band at the end', place: { volume: 'small', session: 2, kind: 'band', number: 6 }, lost: bandRange(6) },
];

/** What a machine without the key cannot know: that a band or index page should be there at all. */
function isSeenWithoutKey(place: Place, damage: Damage): boolean {
  return damage.name !== 'nothing in its place' || (place.kind !== 'band' && place.kind !== 'index page');
}

/** A session need not have labels; and a large volume takes long, so it is damaged in four ways only. */
function isTried(place: Place, damage: Damage): boolean {
  if (place.kind === 'labels') return damage.name !== 'nothing in its place';
  return place.volume === 'small' || /middle|half|nothing in its place|link/.test(damage.name);
}

for (const { what, place, lost } of PLACES) {
  for (const damage of DAMAGES.filter((one) => isTried(place, one))) {
    test.serial(`${what} with ${damage.name} is found and located, and gives no wrong byte`, async (t) => {
      const scene = await setScene(t, template);
      const sessions = damage.isShared ? sharers(scene, place) : new Set([place.session]);
      damage.apply(scene.file(place));
      const isReadable = place.kind === 'band' && damage.name === 'its last byte turned'; // the checksum alone
      const withoutKey = isSeenWithoutKey(place, damage) ? sessions : new Set<number>();
      await verifyDamage(t, scene, { volume: place.volume, sessions, lost, isReadable, withoutKey }, pool);
    });
  }
}
