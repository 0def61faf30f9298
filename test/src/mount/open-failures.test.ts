/** `open` that fails at each of its steps says which and why, and undoes those before it. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { fill } from '../../support/bytes.ts';
import type { Lab } from '../../support/library.ts';
import { sh } from '../../support/workspace.ts';
import { MAIN, mountLab, mountTest, nothingLeft, runUnder } from './mount-support.ts';
import { ext4Scene, filesDiffer, MIB, pathWith } from './open-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

/** A volume `v` with one session of these bytes. */
async function sceneOf(t: ExecutionContext, bytes: Uint8Array): Promise<Lab> {
  const space = await mountLab(t, pool);
  writeFileSync(space.at('img'), bytes);
  await space.sync('v', space.at('img'));
  return space;
}

/** Opens, expects it to fail with `status` and to say `message`, and that nothing is left of it. */
async function failsToOpen(t: ExecutionContext, space: Lab, expected: { readonly status: number; readonly message: RegExp }): Promise<void> {
  const folder = space.folder('mnt');
  const { status, stderr } = await space.cli('open', 'v', folder);
  t.is(status, expected.status, stderr);
  t.regex(stderr, expected.message);
  t.notRegex(stderr, /Not undone/);
  await nothingLeft(t, space);
  t.deepEqual(readdirSync(folder), []);
  t.deepEqual(readdirSync(space.at('state', 'mounts')), []);
}

mountTest('an image without any file system: the step is named', async (t) => {
  const space = await sceneOf(t, fill('noise', MIB));
  await failsToOpen(t, space, { status: 1, message: /recognise the file system: no file system/ });
});

mountTest('what is no file system that can be mounted, as swap: the step is named', async (t) => {
  const space = await mountLab(t, pool);
  writeFileSync(space.at('img'), new Uint8Array(MIB));
  sh('mkswap', '--quiet', space.at('img'));
  await space.sync('v', space.at('img'));
  await failsToOpen(t, space, { status: 1, message: /mount its swap file system: mount failed/ });
});

mountTest('a file system that is broken: the step is named', async (t) => {
  const scene = await ext4Scene(t, pool, ['broken']);
  const image = readFileSync(scene.at('img'));
  image.fill(0xff, 4096, 3 * MIB); // the superblock stays, what it describes does not
  writeFileSync(scene.at('img'), image);
  await scene.sync('v');
  await failsToOpen(t, scene, { status: 1, message: /mount its ext4 file system: mount failed/ });
});

mountTest('a damaged first band: reading fails, and it is not taken for an empty disk', async (t) => {
  const scene = await ext4Scene(t, pool, ['damaged']);
  const session = await scene.session('v');
  rmSync(session.bandPaths(0, 1)[0] ?? '');
  await failsToOpen(t, scene, { status: 1, message: /failed to/ });
});

for (const [tool, step] of [
  ['partx', 'read the partition table'],
  ['losetup', 'attach a loop device'],
  ['blkid', 'recognise the file system'],
  ['mount', 'mount its ext4 file system'],
] as const) {
  mountTest(`a system without ${tool}: the step is named, and the ones before it are undone`, async (t) => {
    const scene = await ext4Scene(t, pool, ['tools']);
    const folder = scene.folder('mnt');
    const { status, stdout } = await runUnder(scene, [process.execPath, MAIN, 'open', 'v', folder, '--json'], pathWith(scene, { [tool]: undefined }));
    const { error } = JSON.parse(stdout);
    t.is(status, 1);
    t.is(error.code, 'TOOL_MISSING');
    t.true(error.message.includes(`failed to ${step}: the program "${tool}" is not installed`), error.message);
    t.true(error.message.endsWith('The steps before it were undone.'), error.message);
    await nothingLeft(t, scene);
    await scene.ok('open', 'v', folder);
    t.is(filesDiffer(scene, folder, 'tools'), '');
    await scene.ok('close', folder);
  });

  mountTest(`a ${tool} that fails: what it says is passed on, and the steps before it are undone`, async (t) => {
    const scene = await ext4Scene(t, pool, ['tools']);
    const env = pathWith(scene, { [tool]: tool === 'blkid' ? 'exit 4' : 'echo "the reason" >&2; exit 32' });
    const { status, stderr } = await runUnder(scene, [process.execPath, MAIN, 'open', 'v', scene.folder('mnt')], env);
    t.is(status, 1);
    t.true(stderr.includes(`failed to ${step}`), stderr);
    if (tool !== 'blkid') t.true(stderr.includes('the reason'), stderr);
    await nothingLeft(t, scene);
  });
}

mountTest('a folder that is missing or a file, a volume or session that is not there: refused before anything is mounted', async (t) => {
  const scene = await ext4Scene(t, pool, ['args']);
  const folder = scene.folder('mnt');
  writeFileSync(scene.at('file'), 'text');
  const cases: readonly (readonly [string, string, string])[] = [
    ['v', scene.at('missing'), 'IO_ERROR'],
    ['v', scene.at('file'), 'TARGET_INVALID'],
    ['w', folder, 'VOLUME_NOT_FOUND'],
    ['v@2001-01-01', folder, 'SESSION_NOT_FOUND'],
    ['v@no-such-tag', folder, 'SESSION_NOT_FOUND'],
  ];
  for (const [what, where, code] of cases) {
    const { error } = await scene.json('open', what, where);
    t.is(error.code, code, `${what} ${where}`);
  }
  await nothingLeft(t, scene);
});

mountTest('close of what is not open, or no folder, is refused', async (t) => {
  const space = await mountLab(t, pool);
  for (const folder of [space.folder('plain'), space.at('missing'), '/']) t.is((await space.json('close', folder)).error.code, 'NOT_MOUNTED', folder);
  t.is((await space.cli('close', space.at('missing', 'below'))).status, 1);
});
