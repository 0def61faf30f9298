/** Repair from a second copy of the repository. */
import { lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { deleteSessions } from '../../../src/deletion/delete-sessions.ts';
import { changeLabels } from '../../../src/labels.ts';
import { bandFile, cut, flip } from '../../support/damage.ts';
import { makeFastRepository } from '../../support/library.ts';
import { contents, repairScene } from './repair-scene.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

test('every kind of file of a session comes from the copy, proven, and shared as before', async (t) => {
  const at = await repairScene(t, pool);
  const volume = await at.repository.volume('disk');
  await changeLabels(at.repository, { volume, sessionId: at.ids[1] ?? '' }, (labels) => ({ ...labels, tags: ['mine'] }));
  const copy = await at.copy();
  const [first, second, third] = await Promise.all(at.ids.map((id) => at.session('disk', id)));
  if (first === undefined || second === undefined || third === undefined) throw new Error('three sessions');
  flip(bandFile(first, 5));
  cut(bandFile(second, 1));
  rmSync(bandFile(third, 2));
  rmSync(first.pagePath(0));
  rmSync(path.join(second.directory, 'manifest'));
  rmSync(path.join(third.directory, 'bitmap'));
  cut(path.join(second.directory, 'labels'));
  rmSync(volume.layout.record);
  rmSync(path.join(third.directory, 'bands'), { recursive: true });
  const before = contents(copy.layout.root);
  const { check, actions, listedBands } = await at.repair({ copy });
  t.deepEqual([check.findings, check.warnings, listedBands], [[], [], 0]);
  t.false(actions.some(({ isLoss }) => isLoss));
  t.is(lstatSync(bandFile(first, 5)).nlink, 3);
  t.is(lstatSync(bandFile(third, 9)).nlink, 3);
  t.deepEqual((await at.repository.volume('disk')).record, volume.record);
  t.deepEqual((await volume.readLabels(at.ids[1] ?? '')).tags, ['mine']);
  t.deepEqual(contents(copy.layout.root), before, 'the copy is only read');
  t.deepEqual((await at.check()).findings, []);
  await at.verifyAll();
});

test('the copy may be damaged itself, lack sessions, and have others: only what is proven is taken', async (t) => {
  const at = await repairScene(t, pool);
  const copy = await at.copy();
  const copied = await copy.volume('disk');
  const inCopy = await copied.openSession(at.ids[2] ?? '');
  const here = await at.session('disk');
  await deleteSessions(copy, copied, [at.ids[0] ?? ''], { command: 'delete' });
  flip(bandFile(inCopy, 5));
  writeFileSync(bandFile(inCopy, 6), readFileSync(bandFile(inCopy, 7))); // another band in its place
  for (const band of [4, 5, 6]) flip(bandFile(here, band));
  const { mendedBands, listedBands } = await at.repair({ copy });
  t.deepEqual([mendedBands, listedBands], [1, 2]);
  t.deepEqual(
    (await at.list()).map(({ bandIndex }) => bandIndex),
    [5, 6],
  );
  await deleteSessions(at.repository, await at.repository.volume('disk'), [at.ids[1] ?? ''], { command: 'delete' });
  await at.repair({ copy });
  t.deepEqual(await (await at.repository.volume('disk')).sessionIds(), [at.ids[0] ?? '', at.ids[2] ?? ''], 'no session comes back');
});

test('a folder in the place of a record is left alone and told; everything else is mended', async (t) => {
  const at = await repairScene(t, pool);
  const copy = await at.copy();
  const [first, second, third] = await Promise.all(at.ids.map((id) => at.session('disk', id)));
  if (first === undefined || second === undefined || third === undefined) throw new Error('three sessions');
  for (const file of [path.join(first.directory, 'bitmap'), second.pagePath(0)]) {
    rmSync(file);
    mkdirSync(file);
  }
  rmSync(path.join(third.directory, 'manifest'));
  const { check, actions } = await at.repair({ copy });
  t.is(check.findings.length, 2);
  t.is(check.warnings.length, 2);
  t.like(actions, [{ session: at.ids[2], what: 'manifest' }]);
});

test('only a second copy of the same repository is taken', async (t) => {
  const at = await repairScene(t, pool);
  await makeFastRepository(at.at('other'));
  t.is((await at.cli('check', '--repair', '--from', at.at('other'))).status, 2);
  t.is((await at.cli('check', '--repair', '--from', at.repo)).status, 2);
  t.is((await at.cli('check', '--repair', '--from', at.at('nothing'))).status, 10);
  for (const wrong of [['--from', at.at('other')], ['--dry-run'], ['--repair', '--newest'], ['--repair', '--no-key'], ['disk@latest', '--repair']]) {
    t.is((await at.cli('check', ...wrong)).status, 2, wrong.join(' '));
  }
});
