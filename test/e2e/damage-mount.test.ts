/** Damage as a mount shows it: EIO for the bytes that are lost, the right bytes everywhere else, and never a hang. */
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import test from 'ava';
import { errnoOf } from '../../bands/errors.ts';
import { type ByteRange, CHUNK_BYTES, mergeRanges } from '../../bands/format/geometry.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { readPart } from '../support/parts.ts';
import { DAMAGES, type Place, setScene } from './damage/scene.ts';
import { BAND, makeTemplate, type Template } from './damage/template.ts';

const pool: BandPool = new BandPool();
let template: Template;

test.before('the repository that all cases start from', async () => {
  template = await makeTemplate(pool);
});

test.after.always(async () => {
  template.remove();
  await pool.close();
});

/** Reads a file piece by piece; gives the pieces that failed with EIO, and fails the test for wrong bytes. */
function brokenPieces(file: string, image: string, pieceBytes: number): { readonly broken: ByteRange[]; readonly wrong: number | undefined } {
  const broken: ByteRange[] = [];
  const { size } = statSync(image);
  const fd = openSync(file, 'r');
  const piece = new Uint8Array(pieceBytes);
  try {
    for (let offset = 0; offset < size; offset += pieceBytes) {
      const length = Math.min(pieceBytes, size - offset);
      try {
        const got = readSync(fd, piece, 0, length, offset);
        if (got !== length || Buffer.compare(piece.subarray(0, length), readPart(image, offset, length)) !== 0) return { broken, wrong: offset };
      } catch (error) {
        if (errnoOf(error) !== 'EIO') throw error;
        broken.push({ offset, length });
      }
    }
    return { broken: mergeRanges(broken), wrong: undefined };
  } finally {
    closeSync(fd);
  }
}

const NAMES = ['a byte in the middle turned', 'half of it cut off', 'nothing in its place', 'a pipe in its place'] as const;
const PLACES: readonly { readonly place: Place; readonly lost: ByteRange }[] = [
  { place: { volume: 'small', session: 1, kind: 'band', number: 0 }, lost: { offset: 0, length: BAND } },
  { place: { volume: 'small', session: 2, kind: 'index page' }, lost: { offset: 0, length: 6 * BAND + 100 * 512 } },
];

for (const { place, lost } of PLACES) {
  for (const name of NAMES) {
    test.serial(`a ${place.kind} with ${name}: the mount gives EIO within its range and the right bytes elsewhere`, async (t) => {
      const scene = await setScene(t, template);
      DAMAGES.find((one) => one.name === name)?.apply(scene.file(place));
      const mount = scene.folder('mnt');
      await scene.ok('mount', mount);
      for (const [i, { id, image }] of template.sessions.small.entries()) {
        const { broken, wrong } = brokenPieces(`${mount}/small/${id}/image`, image, 4096);
        t.is(wrong, undefined, `session ${i}`);
        if (i !== place.session) t.deepEqual(broken, []);
        else if (name === 'a byte in the middle turned' && place.kind === 'band') {
          t.is(broken.length, 1);
          t.true(
            broken.every((one) => one.length === CHUNK_BYTES && one.offset + one.length <= lost.length),
            'one chunk is lost, not more',
          );
        } else t.deepEqual(broken, [lost]);
      }
      const [, other] = template.sessions.other;
      t.deepEqual(brokenPieces(`${mount}/other/${other?.id}/image`, other?.image ?? '', 131_072), { broken: [], wrong: undefined });
      await scene.ok('unmount', mount);
    });
  }
}

test.serial('large reads over a damaged band fail there, and the same reader goes on behind it', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[5]?.apply(scene.file({ volume: 'small', session: 2, kind: 'band', number: 3 }));
  const mount = scene.folder('mnt');
  await scene.ok('mount', mount);
  const [, , newest] = template.sessions.small;
  const { broken, wrong } = brokenPieces(`${mount}/small/latest/image`, newest?.image ?? '', BAND);
  t.is(wrong, undefined);
  t.deepEqual(broken, [{ offset: 3 * BAND, length: BAND }]);
  await scene.ok('unmount', mount);
});

test.serial('a session with a damaged manifest is EIO; its neighbours and the list of sessions are there', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[1]?.apply(scene.file({ volume: 'small', session: 0, kind: 'manifest' }));
  const mount = scene.folder('mnt');
  await scene.ok('mount', mount);
  const [oldest, middle] = template.sessions.small;
  t.deepEqual(readdirSync(`${mount}/small`).sort(), [...template.sessions.small.map(({ id }) => id), 'latest'].sort());
  t.throws(() => statSync(`${mount}/small/${oldest?.id}/image`), { code: 'EIO' });
  t.deepEqual(brokenPieces(`${mount}/small/${middle?.id}/image`, middle?.image ?? '', BAND), { broken: [], wrong: undefined });
  await scene.ok('unmount', mount);
});

test.serial('open of a session whose bands are damaged fails, says so, and leaves nothing mounted', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[1]?.apply(scene.file({ volume: 'small', session: 2, kind: 'manifest' }));
  const { status } = await scene.cli('open', 'small', scene.folder('tree'));
  t.is(status, 13);
  t.false(readPart('/proc/self/mountinfo', 0, 1_000_000).toString().includes(scene.root));
});
