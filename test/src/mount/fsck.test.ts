/** `check --fsck` on real file systems: clean, in use when they were read, really damaged, and in partitions. Nothing stays mounted or attached. */
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import type { CheckedFileSystem } from '../../../src/mount/fsck.ts';
import { makeImage, withMounted } from '../../support/images.ts';
import type { Lab } from '../../support/library.ts';
import { signalWhen } from '../../support/processes.ts';
import { sh } from '../../support/workspace.ts';
import { kill, loopsUnder, mountLab, mountsUnder, mountTest, nothingLeft, processesOf, runUnder, until } from './mount-support.ts';
import { ext4Scene, MIB, makeLiveImage, makePartitioned, pathWith, SIZES, writeFiles } from './open-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

/** Runs it on a volume; what was found of each file system, and the exit status. */
async function fsck(space: Lab, ...args: string[]): Promise<{ readonly status: number | null; readonly found: readonly CheckedFileSystem[] }> {
  const { status, stdout, stderr } = await space.cli('check', '--fsck', ...args, '--json');
  if (stdout === '') throw new Error(stderr);
  return { status, found: JSON.parse(stdout).fileSystems };
}

mountTest('file systems without errors are found clean, of every volume, and what check proved of the bands is not touched', async (t) => {
  const space = await mountLab(t, pool);
  for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
    makeImage(space.at(type), SIZES[type], type);
    if (type !== 'btrfs') await withMounted(space.at(type), space.at('rw'), () => writeFiles(space.at('rw'), type));
    await space.sync(type, space.at(type));
  }
  const { status, found } = await fsck(space);
  t.deepEqual(
    found.map(({ volume, fileSystem, verdict, status: own, partition }) => [volume, fileSystem, verdict, own, partition]),
    [
      ['btrfs', 'btrfs', 'clean', 0, null],
      ['ext4', 'ext4', 'clean', 0, null],
      ['xfs', 'xfs', 'clean', 0, null],
    ],
  );
  t.is(status, 0);
  t.is((await space.json('show', 'ext4@latest')).verified, null);
  await nothingLeft(t, space);
});

for (const type of ['ext4', 'xfs'] as const) {
  mountTest(`${type} that was in use when it was read is never called damaged`, async (t) => {
    const space = await mountLab(t, pool);
    await makeLiveImage(space, space.at('img'), type, 'files');
    await space.sync('v', space.at('img'));
    const { status, found } = await fsck(space, 'v');
    t.is(found.length, 1);
    t.regex(`${found[0]?.output}`, /skipping journal recovery|valuable metadata changes in a log/, 'its journal is open');
    t.regex(`${found[0]?.verdict}`, /^(clean|unclear)$/);
    t.regex(`${found[0]?.message}`, /in use/);
    t.is(status, found[0]?.verdict === 'clean' ? 0 : 3);
    await nothingLeft(t, space);
  });
}

const DAMAGES = {
  ext4: (image: string): string => sh('debugfs', '-w', '-R', 'clri /deep', image),
  xfs: (image: string): string => sh('xfs_db', '-x', '-c', 'agi 0', '-c', 'write -d root 77', image),
} as const;

for (const type of ['ext4', 'xfs'] as const) {
  mountTest(`${type} that is damaged is named, with what its checker says; an older session from before is clean`, async (t) => {
    const space = await mountLab(t, pool);
    makeImage(space.at('img'), SIZES[type], type);
    await withMounted(space.at('img'), space.at('rw'), () => writeFiles(space.at('rw'), 'files'));
    const { session = '' } = await space.sync('v', space.at('img'));
    DAMAGES[type](space.at('img'));
    await space.sync('v');
    const { status, stdout } = await space.cli('check', '--fsck', 'v');
    t.is(status, 3);
    t.regex(stdout, new RegExp(`^DAMAGED v@.*, ${type}: damaged: .* found errors \\(status [1-7]\\)\\n {4}`));
    t.regex(stdout, /1 damaged, 0 unclear/);
    t.like((await fsck(space, `v@${session}`)).found, [{ verdict: 'clean' }]);
    t.is((await space.cli('check', '--data')).status, 0, 'the bands are what was read');
    await nothingLeft(t, space);
  });
}

mountTest('each partition is checked by itself; one without a file system that should have one is not passed over in silence', async (t) => {
  const space = await mountLab(t, pool);
  await makePartitioned(space, space.at('img'), 'files', 'gpt');
  await space.sync('v', space.at('img'));
  const { status, found } = await fsck(space, 'v');
  t.like(found, [
    { partition: 1, fileSystem: null, verdict: 'skipped', tool: null },
    { partition: 2, fileSystem: 'ext4', verdict: 'clean', tool: 'e2fsck' },
  ]);
  t.is(status, 3);
  await nothingLeft(t, space);
});

mountTest('swap and a partition of a kind that holds no file system are nothing to check; an image of only that is not called checked', async (t) => {
  const space = await mountLab(t, pool);
  writeFileSync(space.at('img'), '');
  truncateSync(space.at('img'), 16 * MIB);
  execFileSync('sfdisk', ['--quiet', space.at('img')], { input: 'label: dos\nstart=2048,size=4096,type=5\nstart=8192,size=16384,type=82\n' });
  await space.sync('v', space.at('img'));
  const { status, found } = await fsck(space, 'v');
  t.deepEqual([...new Set(found.map(({ verdict }) => verdict))], ['nothing']);
  t.is(status, 3);
  sh('mkswap', '-q', space.at('img'));
  await space.sync('swap', space.at('img'));
  t.regex((await space.cli('check', '--fsck', 'swap')).stdout, /swap/);
  await nothingLeft(t, space);
});

mountTest('Ctrl-C takes everything down; what a killed run left is taken down by the next', async (t) => {
  const space = await ext4Scene(t, pool, ['files']);
  const isUp = (): boolean => mountsUnder(space.root).length > 0;
  const interrupted = await signalWhen(space.start('check', '--fsck', 'v'), 'SIGINT', isUp);
  t.is(interrupted.status, 130, interrupted.stderr);
  await nothingLeft(t, space);
  const child = space.start('check', '--fsck', 'v');
  await until('the session is served', () => isUp() && processesOf(space).length > 1);
  kill(child.pid ?? 0, 'SIGKILL');
  t.like((await fsck(space, 'v')).found, [{ verdict: 'clean' }]);
  t.deepEqual(loopsUnder(space.root), []);
  await nothingLeft(t, space);
});

mountTest('a checker that is not installed is named with its package, and the file system counts as not checked', async (t) => {
  const space = await ext4Scene(t, pool, ['files']);
  const { status, stdout } = await runUnder(space, [process.execPath, space.program, 'check', '--fsck', 'v'], pathWith(space, {}));
  t.is(status, 3);
  t.regex(stdout, /ext4: skipped: the program "e2fsck" is not installed .*e2fsprogs.*\n.* 1 not checked/);
  await nothingLeft(t, space);
});

mountTest('without root it says so before it asks for a passphrase, and it does not go together with other checks', async (t) => {
  const space = await ext4Scene(t, pool, ['files']);
  const { TIMEBAND_PASSPHRASE: _, ...env } = space.env;
  const refused = await runUnder(space, ['setpriv', '--reuid=65534', process.execPath, space.program, 'check', '--fsck'], env);
  t.is(refused.status, 1);
  t.regex(refused.stderr, /needs root/);
  for (const other of [['--data'], ['--subset', '5%'], ['--max-duration', '5m'], ['--no-key']])
    t.is((await space.cli('check', '--fsck', ...other)).status, 2, other[0]);
});
