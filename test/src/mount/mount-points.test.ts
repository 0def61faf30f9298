/** Which folders can be mounted at: odd names work, wrong ones are refused in the foreground and leave nothing. */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { sameBytes } from '../../support/bytes.ts';
import type { Lab } from '../../support/library.ts';
import { mounted, mountLab, mountsUnder, mountTest, nothingLeft, processesOf, serverOf, until, writeMixed } from './mount-support.ts';
import { ext4Scene } from './open-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const NAMES = ['with spaces', '$(touch INJ)', '`touch INJ`; touch INJ', '"quotes\' & more|', 'tab\tnewline\n', 'back\\slash', 'comma,ro=x', 'ü 木'];

async function setScene(t: ExecutionContext): Promise<Lab & { readonly bytes: Uint8Array }> {
  const space = await mountLab(t, pool);
  const bytes = writeMixed(space.at('img'), 'points', 2);
  await space.sync('v', space.at('img'));
  return { ...space, bytes };
}

mountTest('mount points with names that a shell, an option parser or the mount table would trip over work', async (t) => {
  const scene = await setScene(t);
  for (const name of NAMES) {
    const folder = await mounted(scene, name);
    t.deepEqual(mountsUnder(scene.root), [folder], name);
    sameBytes(t, readFileSync(path.join(folder, 'v', 'latest', 'image')), scene.bytes, name);
    await scene.ok('unmount', folder);
    t.deepEqual(mountsUnder(scene.root), [], name);
  }
  t.false(existsSync(scene.at('INJ')), 'no shell ran in the working folder');
  await nothingLeft(t, scene);
});

mountTest('a repository whose own path is odd mounts as well', async (t) => {
  const scene = await setScene(t);
  const odd = scene.at('re po,max_read=1,ü');
  mkdirSync(odd);
  await scene.ok('init', '--repo', odd, '--quiet');
  await scene.ok('sync', `v=${scene.at('img')}`, '--repo', odd, '--quiet');
  const folder = await mounted(scene, 'mnt', '--repo', odd);
  sameBytes(t, readFileSync(path.join(folder, 'v', 'latest', 'image')), scene.bytes);
  await scene.ok('unmount', folder);
});

mountTest('a mount point can be named through a link, for mount and for unmount', async (t) => {
  const scene = await setScene(t);
  const folder = scene.folder('mnt');
  symlinkSync(folder, scene.at('link'));
  await scene.ok('mount', scene.at('link'));
  sameBytes(t, readFileSync(path.join(folder, 'v', 'latest', 'image')), scene.bytes);
  await scene.ok('unmount', scene.at('link'));
  await nothingLeft(t, scene);
});

mountTest('a folder under a link to another folder can be mounted at and unmounted', async (t) => {
  const scene = await setScene(t);
  scene.folder('real', 'mnt');
  symlinkSync(scene.at('real'), scene.at('link'));
  await scene.ok('mount', scene.at('link', 'mnt'));
  t.deepEqual(mountsUnder(scene.root), [scene.at('real', 'mnt')]);
  await scene.ok('unmount', scene.at('link', 'mnt'));
  await nothingLeft(t, scene);
});

for (const way of ['in the background', 'in the foreground'] as const) {
  mountTest(`a mount point that is missing, a file, or not empty is refused with 1 ${way}, and nothing is left`, async (t) => {
    const scene = await setScene(t);
    const options = way === 'in the foreground' ? ['--foreground'] : [];
    writeFileSync(scene.at('file'), 'text');
    writeFileSync(path.join(scene.folder('full'), 'file'), 'text');
    const cases: readonly (readonly [string, string, RegExp])[] = [
      ['missing', 'MOUNT_FAILED', /does not exist/],
      ['missing/below', 'IO_ERROR', /missing/],
      ['file', 'MOUNT_FAILED', /is not a folder/],
      ['full', 'MOUNT_FAILED', /is not empty/],
    ];
    for (const [name, code, message] of cases) {
      const { status, stdout, stderr } = await scene.cli('mount', scene.at(name), '--json', ...options);
      t.is(status, 1, name);
      t.is(JSON.parse(stdout).error.code, code, name);
      t.regex(stderr, message, name);
    }
    await nothingLeft(t, scene);
    t.deepEqual(readdirSync(scene.at('state', 'mounts')), []);
    t.is(readFileSync(scene.at('full', 'file'), 'utf8'), 'text');
  });

  mountTest(`a folder that is mounted at already is refused with 1 ${way}, and the mount there goes on`, async (t) => {
    const scene = await setScene(t);
    const folder = await mounted(scene);
    const server = serverOf(scene);
    const log = (): string => readlinkSync(`/proc/${server}/fd/2`);
    t.true(log().endsWith('.log'));
    writeFileSync(log(), 'what it said\n', { flag: 'a' });
    const { error } = await scene.json('mount', folder, ...(way === 'in the foreground' ? ['--foreground'] : []));
    t.is(error.code, 'MOUNT_BUSY');
    t.is(readFileSync(log(), 'utf8'), 'what it said\n', 'it keeps its log');
    await until('only the first server runs', () => String(processesOf(scene)) === String(server));
    t.deepEqual(mountsUnder(scene.root), [folder]);
    sameBytes(t, readFileSync(path.join(folder, 'v', 'latest', 'image')), scene.bytes);
    await scene.ok('unmount', folder);
    await nothingLeft(t, scene);
  });
}

mountTest('of several that mount or open at one folder at the same time one does, and the others say why not', async (t) => {
  const scene = await ext4Scene(t, pool, ['race']);
  const folder = scene.folder('mnt');
  for (let round = 0; round < 3; round++) {
    const background = await Promise.all(
      [['mount'], ['mount'], ['open', 'v'], ['mount'], ['open', 'v']].map((args) => scene.cli(...args, folder, '--json')),
    );
    const codes = background.map(({ status, stdout }) => (status === 0 ? undefined : JSON.parse(stdout).error.code));
    t.is(codes.filter((code) => code === undefined).length, 1, String(codes));
    t.true(
      codes.every((code) => code === undefined || code === 'LOCKED' || code === 'MOUNT_BUSY'),
      String(codes),
    );
    t.is(mountsUnder(scene.root).filter((one) => one === folder).length, 1);
    t.is(processesOf(scene).length, 1);
    await scene.ok(mountsUnder(scene.root).length === 1 ? 'unmount' : 'close', folder);
    await nothingLeft(t, scene);
    t.deepEqual(readdirSync(scene.at('state', 'mounts')), []);
  }
});

mountTest('a wrong passphrase ends with 12, no repository with 10, and nothing is mounted', async (t) => {
  const scene = await setScene(t);
  const folder = scene.folder('mnt');
  writeFileSync(scene.at('wrong'), 'not the passphrase\n');
  for (const options of [[], ['--foreground']]) {
    t.is((await scene.cli('mount', folder, '--passphrase-file', scene.at('wrong'), ...options)).status, 12);
    t.is((await scene.cli('mount', folder, '--repo', scene.folder('empty'), ...options)).status, 10);
  }
  await nothingLeft(t, scene);
  t.deepEqual(readdirSync(folder), []);
});

mountTest('a cache size that is none is a mistake of use', async (t) => {
  const scene = await setScene(t);
  for (const size of ['0', 'many', '-1']) t.is((await scene.cli('mount', scene.folder('mnt'), `--cache-size=${size}`)).status, 2, size);
  await nothingLeft(t, scene);
});

mountTest('the least cache serves the right bytes', async (t) => {
  const scene = await setScene(t);
  const folder = await mounted(scene, 'mnt', '--cache-size', '1');
  sameBytes(t, readFileSync(path.join(folder, 'v', 'latest', 'image')), scene.bytes);
  await scene.ok('unmount', folder);
});

mountTest('unmounting what is no mount of ours is refused and leaves it alone', async (t) => {
  const scene = await setScene(t);
  const folder = scene.folder('plain');
  t.is((await scene.json('unmount', folder)).error.code, 'NOT_MOUNTED');
  t.is((await scene.json('unmount', '/')).error.code, 'NOT_MOUNTED');
  t.is((await scene.cli('unmount', scene.at('missing', 'below'))).status, 1);
});
