/** A repository that is mounted read-only: everything that reads works, everything that writes says why it cannot. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { mountFileSystem } from '../support/file-systems.ts';
import { isSameFile, makeImage } from '../support/images.ts';
import { makeFastRepository } from '../support/library.ts';
import { sh, workspace } from '../support/workspace.ts';

const MIB = 1_048_576;

const READING: readonly (readonly string[])[] = [
  ['volumes'],
  ['sessions'],
  ['show', 'disk@kept'],
  ['stats'],
  ['diff', 'disk@latest~1', 'disk@latest'],
  ['map', 'disk'],
  ['sources', 'disk'],
  ['prune', '--keep-last', '1', '--dry-run'],
  ['delete', 'disk@latest~1', '--dry-run'],
  ['sync', 'disk', '--dry-run'],
  ['check', '--data'],
  ['check', '--no-key'],
  ['check', '--fsck'],
];

/** Two at once, each with a core of its own. */
async function inPairs(commands: readonly (readonly string[])[], run: (...command: string[]) => Promise<void>): Promise<void> {
  for (let i = 0; i < commands.length; i += 2) await Promise.all(commands.slice(i, i + 2).map((command) => run(...command)));
}

test.serial('a repository on a read-only file system can be listed, compared, checked, restored, mounted and opened, and nothing else', async (t) => {
  const ws = workspace(t);
  const mount = mountFileSystem(ws, { name: 'ext4', make: ['mkfs.ext4', '-q', '-F'], sizeMib: 64 }, 'repo');
  sh('rm', '-r', path.join(mount, 'lost+found'));
  await makeFastRepository(mount);
  const image = ws.at('disk.img');
  makeImage(image, 16 * MIB);
  await ws.ok('sync', `disk=${image}`, '--band-size', '256K');
  sh('debugfs', '-w', '-R', 'mkdir /folder', image);
  await ws.ok('sync', 'disk', '--tag', 'kept');
  sh('mount', '-o', 'remount,ro', mount);

  const state = ws.folder('fresh-state'); // of a machine that never saw this repository
  const run = (...args: string[]): ReturnType<typeof ws.cliIn> => ws.cliIn({ TIMEBAND_STATE_DIR: state }, ...args);
  const [target, past, opened] = [ws.at('restored.img'), ws.folder('past'), ws.folder('opened')];
  const works = async (...command: string[]): Promise<void> => {
    const { status, stderr } = await run(...command);
    t.is(status, 0, `${command.join(' ')}: ${stderr}`);
  };
  await inPairs(READING, works);
  await works('restore', 'disk', target);
  await works('mount', past);
  await works('open', 'disk', opened);
  t.true(isSameFile(target, image));
  t.is(Buffer.compare(readFileSync(path.join(past, 'disk', 'latest', 'image')), readFileSync(image)), 0);
  t.true(sh('ls', opened).includes('folder'));
  await works('unmount', past);
  await works('close', opened);

  const writing = [
    ['sync', 'disk', '--force'],
    ['sync', `new=${image}`],
    ['tag', 'disk@latest', 'more'],
    ['protect', 'disk@latest'],
    ['note', 'disk', 'text'],
    ['rename', 'disk', 'other'],
    ['delete', 'disk@latest~1', '--yes'],
    ['prune', '--keep-last', '1', '--yes'],
    ['delete-volume', 'disk', '--name', 'disk'],
    ['with-lock', '--', 'true'],
    ['init', '--repo', path.join(mount, 'inner')],
  ];
  await inPairs(writing, async (...command) => {
    const { status, stderr } = await run(...command);
    t.is(status, 1, `${command.join(' ')}: ${stderr}`);
    t.regex(stderr, /^timeband: .*the file system is read-only/, command[0]);
  });
  sh('mount', '-o', 'remount,rw', mount);
  t.is((await run('tag', 'disk@latest', 'more')).status, 0);
  t.is((await run('check', '--data')).status, 0);
});
