import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { sh } from '../../support/workspace.ts';
import { errnoFrom, loopsUnder, mountLab, mountsUnder, mountTest, nothingLeft, processesOf } from './mount-support.ts';
import { ext4Scene, filesDiffer, makeLiveImage, makePartitioned, SIZES } from './open-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  mountTest(`a session of a live ${type} file system opens without replaying its journal, and closes without a trace`, async (t) => {
    const space = await mountLab(t, pool);
    await makeLiveImage(space, space.at('img'), type, type);
    if (type === 'ext4') t.regex(sh('dumpe2fs', '-h', space.at('img')), /needs_recovery/, 'the journal is dirty');
    await space.sync('v', space.at('img'), { bandBytes: 2_097_152 });
    const folder = space.folder('open here');
    const opened = await space.json('open', 'v', folder);
    t.is(opened.fileSystem, type);
    t.is(opened.directory, folder);
    t.is(sh('blockdev', '--getro', opened.loop).trim(), '1');
    t.is(Number(sh('blockdev', '--getsize64', opened.loop)), SIZES[type]);
    t.is(filesDiffer(space, folder, type).replace(/^Only in .*: unfinished\n/, ''), '');
    t.is(
      errnoFrom(() => symlinkSync('x', `${folder}/new`)),
      'EROFS',
    );
    sh('df', folder);
    await space.ok('close', folder);
    await nothingLeft(t, space);
    t.deepEqual(readdirSync(folder), []);
    t.deepEqual(readdirSync(space.at('state', 'mounts')), []);
  });
}

for (const table of ['dos', 'gpt'] as const) {
  mountTest(`a partition of an image with a ${table} table opens by its number; without one, the choice is named`, async (t) => {
    const space = await mountLab(t, pool);
    await makePartitioned(space, space.at('img'), table, table);
    await space.sync('disk/one', space.at('img'));
    const folder = space.folder('mnt');
    for (const [option, message] of [
      [[], /choose one with --partition: 1 \(1048576 bytes\), 2 \(16777216 bytes\)/],
      [['--partition', '3'], /there is no partition 3/],
      [['--partition', 'x'], /not a partition number/],
    ] as const) {
      const { status, stderr } = await space.cli('open', 'disk/one', folder, ...option);
      t.is(status, 2);
      t.regex(stderr, message);
      await nothingLeft(t, space);
    }
    await space.ok('open', 'disk/one', folder, '--partition', '2');
    t.is(filesDiffer(space, folder, table), '');
    await space.ok('close', folder);
    await nothingLeft(t, space);
  });
}

mountTest('two sessions opened at once each show their own files', async (t) => {
  const scene = await ext4Scene(t, pool, ['old', 'new']);
  const folders = [scene.folder('one'), scene.folder('two')] as const;
  await Promise.all(folders.map((folder, i) => scene.ok('open', `v@${scene.sessions[i]}`, folder)));
  t.is(loopsUnder(scene.root).length, 2);
  t.is(processesOf(scene).length, 2);
  t.is(filesDiffer(scene, folders[0], 'old'), '');
  t.is(filesDiffer(scene, folders[1], 'new'), '');
  await scene.ok('close', folders[0]);
  t.is(filesDiffer(scene, folders[1], 'new'), '', 'the other stays');
  await scene.ok('close', folders[1]);
  await nothingLeft(t, scene);
});

mountTest('one session can be opened at two folders', async (t) => {
  const scene = await ext4Scene(t, pool, ['one']);
  const folders = [scene.folder('one'), scene.folder('two')];
  for (const folder of folders) await scene.ok('open', 'v', folder);
  for (const folder of folders) t.is(filesDiffer(scene, folder, 'one'), '', folder);
  for (const folder of folders) await scene.ok('close', folder);
  await nothingLeft(t, scene);
});

mountTest('close while a process works in the folder exits with 1, and all stays open; afterwards it closes', async (t) => {
  const scene = await ext4Scene(t, pool, ['busy']);
  const folder = scene.folder('mnt');
  await scene.ok('open', 'v', folder);
  const holder = spawn('sleep', ['1000'], { cwd: folder, stdio: 'ignore' });
  t.teardown(() => holder.kill('SIGKILL'));
  await once(holder, 'spawn');
  const { error } = await scene.json('close', folder);
  t.is(error.code, 'MOUNT_BUSY');
  t.is((await scene.cli('close', folder)).status, 1);
  t.is(filesDiffer(scene, folder, 'busy'), '');
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  await scene.ok('close', folder);
  await nothingLeft(t, scene);
});

mountTest('an opened folder is not taken for a mount, nor a mount for an opened folder', async (t) => {
  const scene = await ext4Scene(t, pool, ['kinds']);
  const [opened, mount] = [scene.folder('opened'), scene.folder('mount')];
  await scene.ok('open', 'v', opened);
  await scene.ok('mount', mount);
  t.is((await scene.json('unmount', opened)).error.code, 'MOUNT_BUSY');
  t.is((await scene.json('close', mount)).error.code, 'NOT_MOUNTED');
  t.is((await scene.json('open', 'v', opened)).error.code, 'MOUNT_BUSY');
  t.is((await scene.json('open', 'v', mount)).error.code, 'MOUNT_BUSY');
  t.is(filesDiffer(scene, opened, 'kinds'), '');
  t.true(existsSync(`${mount}/v/latest/image`));
  await scene.ok('close', opened);
  await scene.ok('unmount', mount);
  t.is((await scene.json('close', opened)).error.code, 'NOT_MOUNTED');
  await nothingLeft(t, scene);
});

mountTest('the options of mount and open that are said to be possible are: a cache, a relative folder', async (t) => {
  const scene = await ext4Scene(t, pool, ['options']);
  scene.folder('rel');
  await scene.ok('open', 'v@latest', 'rel', '--cache-size', '4M');
  t.is(filesDiffer(scene, scene.at('rel'), 'options'), '');
  await scene.ok('close', 'rel/');
  await nothingLeft(t, scene);
});

mountTest('a folder named through a link can be opened at and closed', async (t) => {
  const scene = await ext4Scene(t, pool, ['link']);
  symlinkSync(scene.folder('real'), scene.at('link'));
  await scene.ok('open', 'v', scene.at('link'));
  t.is(filesDiffer(scene, scene.at('real'), 'link'), '');
  await scene.ok('close', scene.at('link'));
  await nothingLeft(t, scene);
});

mountTest('a state folder behind a link is no obstacle', async (t) => {
  const scene = await ext4Scene(t, pool, ['state']);
  symlinkSync(scene.folder('far', 'state'), scene.at('state'));
  const folder = scene.folder('mnt');
  await scene.ok('open', 'v', folder);
  t.is(filesDiffer(scene, folder, 'state'), '');
  await scene.ok('close', folder);
  t.deepEqual(mountsUnder(scene.root), []);
  t.deepEqual(loopsUnder(scene.root), []);
});

mountTest('a text in the folder is what the session held, and reading it twice gives it twice', async (t) => {
  const scene = await ext4Scene(t, pool, ['twice']);
  const folder = scene.folder('mnt');
  for (let i = 0; i < 2; i++) {
    await scene.ok('open', 'v', folder);
    t.is(readFileSync(`${folder}/deep/small 3`, 'utf8'), 'twice 3\n'.repeat(30));
    await scene.ok('close', folder);
  }
  await nothingLeft(t, scene);
});
