/** Damage as a user meets it: exit statuses, messages and documents of the commands. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { firstWrongByte } from '../support/parts.ts';
import { sh } from '../support/workspace.ts';
import { DAMAGES, type Scene, setScene } from './damage/scene.ts';
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

/** Band 3 of the newest session of `small` and the session before, which share it. */
function damageBand(scene: Scene): { readonly name: string; readonly image: string; readonly range: { offset: number; length: number } } {
  const flip = DAMAGES.find(({ name }) => name === 'a byte in the middle turned');
  flip?.apply(scene.file({ volume: 'small', session: 2, kind: 'band', number: 3 }));
  const [, , newest] = template.sessions.small;
  return { name: `small@${newest?.id}`, image: newest?.image ?? '', range: { offset: 3 * BAND, length: BAND } };
}

for (const options of [[], ['--data'], ['--no-key']]) {
  test.serial(`check ${options.join(' ')} of a damaged band exits with 3 and names the sessions that hold it`, async (t) => {
    const scene = await setScene(t, template);
    const { range } = damageBand(scene);
    const { status, stdout } = await scene.cli('check', ...options, '--json');
    t.is(status, 3);
    const document = JSON.parse(stdout);
    t.deepEqual(
      document.damaged.map((one: { session: string }) => one.session),
      [scene.id('small', 1), scene.id('small', 2)],
    );
    if (options[0] !== '--no-key') for (const one of document.damaged) t.deepEqual(one.ranges, [range]);
  });
}

test.serial('check of a sound session beside a damaged one exits with 0, of the damaged one with 3', async (t) => {
  const scene = await setScene(t, template);
  const { name } = damageBand(scene);
  t.is((await scene.cli('check', `small@${scene.id('small', 0)}`)).status, 0);
  t.is((await scene.cli('check', 'other')).status, 0);
  t.is((await scene.cli('check', name)).status, 3);
  t.is((await scene.cli('check', 'small')).status, 3);
});

test.serial('a restore of a damaged session exits with 13, names the bytes and leaves no file', async (t) => {
  const scene = await setScene(t, template);
  const { name, range } = damageBand(scene);
  const { status, stderr } = await scene.cli('restore', name, scene.at('out.img'));
  t.is(status, 13);
  t.true(stderr.includes(`${range.offset}-${range.offset + range.length - 1}`));
  t.false(existsSync(scene.at('out.img')));
  t.deepEqual(sh('find', scene.root, '-maxdepth', '1', '-name', 'out.img*'), '');
});

test.serial('restore --keep-going exits with 3, lists the range, and is right elsewhere', async (t) => {
  const scene = await setScene(t, template);
  const { name, image, range } = damageBand(scene);
  const target = scene.at('out.img');
  const { status, stdout } = await scene.cli('restore', name, target, '--keep-going', '--json');
  t.is(status, 3);
  const [damaged] = JSON.parse(stdout).damaged;
  t.deepEqual({ offset: damaged.offset, length: damaged.length }, range);
  t.is(firstWrongByte(target, image, [range]), undefined);
  writeFileSync(target, new Uint8Array(5_000_000).fill(0x55));
  t.is((await scene.cli('restore', name, target, '--keep-going', '--overwrite')).status, 3);
  t.is(firstWrongByte(target, image, [range]), undefined, 'over a file full of other bytes');
});

test.serial('restore --in-place exits with 13 at the damage, and with 3 under --keep-going, and leaves the range as it was', async (t) => {
  const scene = await setScene(t, template);
  const { name, image, range } = damageBand(scene);
  const target = scene.at('out.img');
  writeFileSync(target, new Uint8Array(5_000_000));
  const { status, stderr } = await scene.cli('restore', name, target, '--in-place');
  t.is(status, 13);
  t.true(stderr.includes(`${range.offset}-${range.offset + range.length - 1}`));
  const going = await scene.cli('restore', name, target, '--in-place', '--keep-going');
  t.is(going.status, 3);
  t.regex(going.stderr, /left as it was/);
  t.is(firstWrongByte(target, image, [range]), undefined);
});

test.serial('a restore to stdout exits with 13 at the damage, and with 3 under --keep-going', async (t) => {
  const scene = await setScene(t, template);
  const { name, image, range } = damageBand(scene);
  t.is((await scene.shell(`timeband restore ${name} - > out.img`)).status, 13);
  const before = readFileSync(scene.at('out.img'));
  t.is(Buffer.compare(before, readFileSync(image).subarray(0, before.length)), 0, 'what came before the damage is right');
  t.true(before.length <= range.offset);
  const { status, stderr } = await scene.shell(`timeband restore ${name} - --keep-going > out.img`);
  t.is(status, 3);
  const chunk = /bytes (\d+)-(\d+)\n/.exec(stderr) ?? [];
  const lost = { offset: Number(chunk[1]), length: Number(chunk[2]) + 1 - Number(chunk[1]) };
  t.true(lost.offset >= range.offset && lost.offset + lost.length <= range.offset + range.length);
  t.is(firstWrongByte(scene.at('out.img'), image, [lost]), undefined);
});

test.serial('a session with a damaged manifest is listed with its problem (3); the others can be used', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[1]?.apply(scene.file({ volume: 'small', session: 1, kind: 'manifest' }));
  const { status, stdout } = await scene.cli('sessions', 'small', '--json');
  t.is(status, 3);
  t.deepEqual(
    JSON.parse(stdout).sessions.map((one: { problem: string | null }) => one.problem === null),
    [true, false, true],
  );
  t.is((await scene.cli('show', `small@${scene.id('small', 1)}`)).status, 13);
  t.is((await scene.cli('restore', 'small@latest', scene.at('newest.img'))).status, 0);
  t.is(firstWrongByte(scene.at('newest.img'), template.sessions.small[2]?.image ?? ''), undefined);
});

test.serial('diff over a damaged index page exits with 13', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[1]?.apply(scene.file({ volume: 'small', session: 1, kind: 'index page' }));
  t.is((await scene.cli('diff', `small@${scene.id('small', 0)}`, `small@${scene.id('small', 1)}`)).status, 13);
});

test.serial("damaged labels of one session do not keep another session's tag from being found", async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[1]?.apply(scene.file({ volume: 'small', session: 2, kind: 'labels' }));
  t.is((await scene.cli('show', 'small@t1')).status, 0);
});
