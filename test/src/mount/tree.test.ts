import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { formatSessionId, parseSessionId } from '../../../bands/format/session-id.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { sameBytes } from '../../support/bytes.ts';
import { BAND_256K, type Lab } from '../../support/library.ts';
import { sh } from '../../support/workspace.ts';
import { errnoFrom, mounted, mountLab, mountTest, nothingLeft, until, writeMixed } from './mount-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

interface Scene extends Lab {
  /** Bytes of each session by its path in the mount. */
  readonly images: ReadonlyMap<string, Uint8Array>;
}

/** When the session was made that a path of the mount ends with. */
function timeOf(name: string): number {
  return parseSessionId(path.basename(name)) ?? Number.NaN;
}

/** Volumes `a` with two sessions, `a/b` below it, and `c d/ü`. */
async function setScene(t: ExecutionContext): Promise<Scene> {
  const space = await mountLab(t, pool);
  const images = new Map<string, Uint8Array>();
  for (const [i, name] of ['a', 'a', 'a/b', 'c d/ü'].entries()) {
    const bytes = writeMixed(space.at('img'), `${name} ${i}`, 2 + i);
    images.set(`${name}/${(await space.sync(name, space.at('img'))).session}`, bytes);
  }
  return { ...space, images };
}

mountTest('a mount shows each volume, with slashes as folders, each session, and a link to the newest', async (t) => {
  const scene = await setScene(t);
  const folder = await mounted(scene);
  const sessions = [...scene.images.keys()];
  const expected = ['a', 'a/b', 'c d', 'c d/ü', 'a/latest', 'a/b/latest', 'c d/ü/latest', ...sessions, ...sessions.map((one) => `${one}/image`)];
  t.deepEqual(sh('find', folder, '-mindepth', '1', '-printf', '%P\\n').trim().split('\n').sort(), expected.sort());
  t.is(sh('find', folder, '-type', 'f', '-name', 'image').trim().split('\n').length, sessions.length);
  for (const [session, bytes] of scene.images) sameBytes(t, readFileSync(path.join(folder, session, 'image')), bytes, session);
  await scene.ok('unmount', folder);
  await nothingLeft(t, scene);
});

mountTest('sizes, times and modes are those of the sessions', async (t) => {
  const scene = await setScene(t);
  const folder = await mounted(scene);
  for (const [session, bytes] of scene.images) {
    const timeMs = timeOf(session);
    const image = statSync(path.join(folder, session, 'image'));
    t.is(image.size, bytes.length);
    t.is(image.blocks, bytes.length / 512);
    t.is(image.mode & 0o7777, 0o400);
    t.true(image.isFile());
    t.is(image.uid, process.getuid?.() ?? -1);
    for (const name of [session, `${session}/image`]) t.is(statSync(path.join(folder, name)).mtimeMs, timeMs, name);
  }
  const newest =
    [...scene.images.keys()]
      .filter((name) => /^a\/\d/.test(name))
      .sort()
      .at(-1) ?? '';
  t.is(statSync(path.join(folder, 'a')).mtimeMs, timeOf(newest), 'a volume has the time of its newest session');
  t.is(readlinkSync(path.join(folder, 'a', 'latest')), path.basename(newest));
  t.is(scene.images.get(newest)?.length, statSync(path.join(folder, 'a', 'latest', 'image')).size);
  t.true(lstatSync(path.join(folder, 'a', 'latest')).isSymbolicLink());
});

mountTest('new sessions and volumes appear in a mount that is up, and the link follows them', async (t) => {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'first', 2);
  await space.sync('v', space.at('img'));
  const folder = await mounted(space);
  const latest = path.join(folder, 'v', 'latest');
  const first = readFileSync(path.join(latest, 'image'));
  const bytes = writeMixed(space.at('img'), 'second', 3);
  const { session } = await space.sync('v');
  t.is(session, readlinkSync(latest));
  sameBytes(t, readFileSync(path.join(latest, 'image')), bytes);
  t.is(readdirSync(path.join(folder, 'v')).length, 3);
  t.notDeepEqual(first.length, bytes.length);
  await space.sync('new/one', space.at('img'));
  await until('the new volume appears', () => readdirSync(folder).includes('new'));
  sameBytes(t, readFileSync(path.join(folder, 'new', 'one', 'latest', 'image')), bytes);
});

mountTest('what is not in the repository is not there', async (t) => {
  const scene = await setScene(t);
  const folder = await mounted(scene);
  for (const name of [
    'nope',
    'c',
    'c d/ue',
    'a/20200101T000000.000Z',
    'a/19990101T000000.000Z/image',
    'a/latest/other',
    'a/image',
    'c d/latest',
    'image',
  ])
    t.is(
      errnoFrom(() => lstatSync(path.join(folder, name))),
      'ENOENT',
      name,
    );
  t.is(
    errnoFrom(() => lstatSync(path.join(folder, 'a/latest/image/below'))),
    'ENOTDIR',
  );
});

mountTest('an empty repository mounts as an empty folder', async (t) => {
  const space = await mountLab(t, pool);
  const folder = await mounted(space);
  t.deepEqual(readdirSync(folder), []);
  await space.ok('unmount', folder);
});

mountTest('df works on the mount and says which repository it is', async (t) => {
  const scene = await setScene(t);
  const folder = await mounted(scene);
  t.true(sh('df', '--all', folder).includes(`timeband:${scene.repo}`));
  t.is(sh('stat', '--file-system', '--format', '%a %d', folder).trim(), '0 0', 'nothing is free');
});

mountTest('every way of writing is refused as on a read-only file system, and changes nothing', async (t) => {
  const scene = await setScene(t);
  const folder = await mounted(scene);
  const image = path.join(folder, 'a', 'latest', 'image');
  const before = readFileSync(image);
  const attempts: readonly (readonly string[])[] = [
    ['touch', image],
    ['touch', `${folder}/new`],
    ['dd', 'if=/dev/zero', `of=${image}`, 'count=1', 'conv=notrunc'],
    ['truncate', '--size=0', image],
    ['chmod', '600', image],
    ['chown', '1', image],
    ['rm', '-f', image],
    ['rmdir', path.dirname(image)],
    ['mkdir', `${folder}/a/new`],
    ['mv', `${folder}/a`, `${folder}/z`],
    ['ln', image, `${folder}/hard`],
    ['ln', '-s', 'x', `${folder}/soft`],
    ['mkfifo', `${folder}/pipe`],
  ];
  for (const [tool = '', ...args] of attempts) {
    const error = t.throws(() => sh(tool, ...args), undefined, tool);
    t.regex(String(error), /Read-only file system/, `${tool} ${args.join(' ')}`);
  }
  sameBytes(t, readFileSync(image), before);
});

mountTest('a thousand sessions are listed completely and in order, each with its time', async (t) => {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'one', 1);
  await space.sync('many', space.at('img'));
  const { layout } = await space.repository.volume('many');
  const [real = ''] = readdirSync(layout.sessions);
  const ids = Array.from({ length: 999 }, (_, i) => formatSessionId(Date.UTC(2001, 0, 1) + i * 86_400_123));
  for (const id of ids) {
    mkdirSync(path.join(layout.sessions, id));
    linkSync(path.join(layout.sessions, real, 'manifest'), path.join(layout.sessions, id, 'manifest'));
  }
  const folder = path.join(await mounted(space), 'many');
  t.deepEqual(sh('ls', '-U', folder).trim().split('\n'), [...ids, real, 'latest']);
  t.is(sh('ls', '-l', folder).trim().split('\n').length, 1002);
  for (const id of ids) if (statSync(path.join(folder, id)).mtimeMs !== timeOf(id)) t.fail(id);
  t.is(readlinkSync(path.join(folder, 'latest')), real);
  t.is(
    errnoFrom(() => statSync(path.join(folder, ids[0] ?? '', 'image'))),
    'EIO',
    'a session under a name that is not its own is damage',
  );
  t.is(statSync(path.join(folder, real, 'image')).size, BAND_256K - 37 * 512);
});

mountTest('a volume whose record is damaged hides only itself', async (t) => {
  const scene = await setScene(t);
  const volume = await scene.repository.volume('a/b');
  writeFileSync(volume.layout.record, 'damaged');
  const folder = await mounted(scene);
  t.deepEqual(readdirSync(folder).sort(), ['a', 'c d']);
  t.false(readdirSync(path.join(folder, 'a')).includes('b'));
  t.is(statSync(path.join(folder, 'c d', 'ü', 'latest', 'image')).size, 5 * BAND_256K - 37 * 512);
});
