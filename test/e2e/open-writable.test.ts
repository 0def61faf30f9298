/** Sessions that are written over through FUSE, a loop device and a file system: journals replayed, and nothing of it in the repository. */
import { closeSync, fsyncSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { errnoFrom, kill, mounted, mountLab, mountTest, nothingLeft, processesOf, serverOf, until, writeMixed } from '../src/mount/mount-support.ts';
import { filesDiffer, makeLiveImage, writeFiles } from '../src/mount/open-support.ts';
import { fill, isSame, sameBytes } from '../support/bytes.ts';
import { BAND_256K, type Lab } from '../support/library.ts';
import { listTree } from '../support/tree.ts';
import { sh } from '../support/workspace.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

/** All that is in the repository but the locks, which come and go. */
function repositoryTree(space: Lab): string {
  return ['volumes', 'keys', 'repository.json']
    .map((name) => (name.includes('.') ? readFileSync(space.at('repo', name), 'utf8') : listTree(space.at('repo', name))))
    .join('\n');
}

for (const type of ['ext4', 'xfs'] as const) {
  mountTest(
    `a session of a live ${type} file system is opened writable: its journal is replayed, it is written to and found clean, and the repository stays as it is`,
    async (t) => {
      const space = await mountLab(t, pool);
      await makeLiveImage(space, space.at('img'), type, type);
      await space.sync('v', space.at('img'), { bandBytes: 2_097_152 });
      const before = repositoryTree(space);
      const [folder, overlay] = [space.folder('mnt'), space.at('overlay')];
      const opened = await space.json('open', 'v', folder, '--overlay', overlay);
      t.is(sh('blockdev', '--getro', opened.loop).trim(), '0');
      sameBytes(t, readFileSync(path.join(folder, 'unfinished')), fill('unfinished', 100_000), 'what only the journal held');
      writeFiles(folder, 'over it');
      sh('rm', path.join(folder, 'unfinished'));
      await space.ok('close', folder);
      await nothingLeft(t, space);
      t.is(repositoryTree(space), before);
      await space.ok('open', 'v', folder, '--overlay', overlay);
      t.is(filesDiffer(space, folder, 'over it'), '');
      await space.ok('close', folder);
      const socket = space.at('s');
      await space.ok('serve-nbd', 'v', '--socket', socket, '--overlay', overlay);
      sh('nbdcopy', `nbd+unix:///?socket=${socket}`, space.at('raw'));
      await space.ok('stop-nbd', socket);
      if (type === 'ext4') sh('e2fsck', '-fn', space.at('raw'));
      else sh('xfs_repair', '-n', space.at('raw'));
      await space.ok('open', 'v', folder);
      t.is(filesDiffer(space, folder, type).replace(/^Only in .*: unfinished\n/, ''), '', 'the session is what it was');
      await space.ok('close', folder);
      t.is(repositoryTree(space), before);
    },
  );
}

mountTest(
  'thrown away: what was written is gone after close, and its file has no name meanwhile; fsck repairs a session that needs it',
  async (t) => {
    const space = await mountLab(t, pool);
    await makeLiveImage(space, space.at('img'), 'ext4', 'x');
    await space.sync('v', space.at('img'));
    const folder = space.folder('mnt');
    const opened = await space.json('open', 'v', folder, '--writable');
    writeFileSync(path.join(folder, 'new'), 'new');
    sh('umount', folder);
    t.notThrows(() => sh('e2fsck', '-fy', opened.loop));
    sh('mount', opened.loop, folder);
    t.is(readFileSync(path.join(folder, 'new'), 'utf8'), 'new');
    await space.ok('close', folder);
    await nothingLeft(t, space);
    await space.ok('open', 'v', folder, '--writable');
    t.is(
      errnoFrom(() => readFileSync(path.join(folder, 'new'))),
      'ENOENT',
    );
    await space.ok('close', folder);
  },
);

mountTest('what was made durable before the server was killed is there when the session is opened again', async (t) => {
  const space = await mountLab(t, pool);
  await makeLiveImage(space, space.at('img'), 'ext4', 'x');
  await space.sync('v', space.at('img'));
  const [folder, overlay] = [space.folder('mnt'), space.at('overlay')];
  await space.ok('open', 'v', folder, '--overlay', overlay);
  writeFileSync(path.join(folder, 'kept'), fill('kept', 500_000));
  sh('sync', path.join(folder, 'kept'));
  writeFileSync(path.join(folder, 'perhaps'), fill('perhaps', 500_000));
  kill(serverOf(space), 'SIGKILL');
  await until('it is dead', () => processesOf(space).length === 0);
  await space.ok('close', folder);
  await nothingLeft(t, space);
  await space.ok('open', 'v', folder, '--overlay', overlay);
  sameBytes(t, readFileSync(path.join(folder, 'kept')), fill('kept', 500_000));
  await space.ok('close', folder);
});

mountTest('a full disk under the overlay is ENOSPC for who writes, and the rest of the image goes on', async (t) => {
  const space = await mountLab(t, pool);
  const bytes = writeMixed(space.at('img'), 'enospc', 40);
  await space.sync('v', space.at('img'));
  const state = space.folder('state');
  sh('mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', state);
  const mnt = await mounted(space, 'mnt', '--writable');
  const fd = openSync(path.join(mnt, 'v', 'latest', 'image'), 'r+');
  t.teardown(() => closeSync(fd));
  let written = 0;
  const errno = errnoFrom(() => {
    for (; written < 8 * 1_048_576; written += 131_072) writeSync(fd, fill('noise', 131_072), 0, 131_072, written);
  });
  t.is(errno, 'ENOSPC');
  t.true(written > 1_048_576, `after ${written} bytes`);
  const image = readFileSync(path.join(mnt, 'v', 'latest', 'image'));
  sameBytes(t, image.subarray(written + 131_072), bytes.subarray(written + 131_072));
  t.true(isSame(image.subarray(0, 131_072), fill('noise', 131_072)));
});

mountTest(
  'mount --writable: each image is written over by itself until the mount ends; its size stays, and unwritten ones hold nothing',
  async (t) => {
    const space = await mountLab(t, pool);
    const bytes = writeMixed(space.at('img'), 'tree', 12);
    await space.sync('v', space.at('img'));
    const older = (await space.json('sessions', 'v')).sessions[0].session;
    writeMixed(space.at('img'), 'tree 2', 12);
    await space.sync('v', space.at('img'));
    const before = repositoryTree(space);
    const mnt = await mounted(space, 'mnt', '--writable');
    const image = path.join(mnt, 'v', older, 'image');
    const expected = Uint8Array.from(bytes);
    const fd = openSync(image, 'r+');
    for (const [at, length] of [
      [1000, 5000],
      [BAND_256K - 300, 700],
      [3 * BAND_256K, 300_000],
    ] as const) {
      expected.set(fill(`at ${at}`, length), at);
      writeSync(fd, fill(`at ${at}`, length), 0, length, at);
    }
    fsyncSync(fd);
    t.is(
      errnoFrom(() => writeSync(fd, new Uint8Array(10), 0, 10, bytes.length)),
      'ENOSPC',
    );
    closeSync(fd);
    t.is(
      errnoFrom(() => writeFileSync(image, 'a file over a disk')),
      'EPERM',
    );
    sameBytes(t, readFileSync(image), expected, 'read back after it was closed');
    sh('dd', 'if=/dev/zero', `of=${image}`, 'bs=64k', 'count=4', 'seek=2', 'conv=notrunc,fsync', 'status=none');
    expected.fill(0, 131_072, 393_216);
    sameBytes(t, readFileSync(image), expected);
    readFileSync(path.join(mnt, 'v', 'latest', 'image'));
    const [written, only] = [await space.cli('delete', `v@${older}`, '--yes'), processesOf(space).length];
    t.deepEqual([written.status, only], [11, 1], 'one that was written to is held');
    await space.ok('unmount', mnt);
    await nothingLeft(t, space);
    t.is(repositoryTree(space), before);
  },
);

mountTest('a file that is no overlay is refused, left as it is, and nothing stays open', async (t) => {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'x', 2);
  await space.sync('v', space.at('img'));
  const { status, stderr } = await space.cli('open', 'v', space.folder('mnt'), '--overlay', space.at('img'));
  t.is(status, 1);
  t.regex(stderr, /no overlay of this volume/);
  await nothingLeft(t, space);
});
