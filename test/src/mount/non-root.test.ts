/** Mounts of users that are not root: they work where /dev/fuse and fusermount let them, else the reason is said. */
import { chmodSync, chownSync, existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import type { Lab } from '../../support/library.ts';
import { type CliResult, sh } from '../../support/workspace.ts';
import { MAIN, mountLab, mountTest, nothingLeft, runUnder, writeMixed } from './mount-support.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const NOBODY = 65_534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const hasFusermount = existsSync('/usr/bin/fusermount') || existsSync('/bin/fusermount');
/** A checkout in a folder of root's own is none that another user can run. */
const canRun = (() => {
  for (let folder = path.dirname(MAIN); folder !== '/'; folder = path.dirname(folder)) if ((statSync(folder).mode & 0o005) !== 0o005) return false;
  return true;
})();
const userTest =
  canRun && hasFusermount
    ? mountTest
    : (title: string) => test.skip(`${title} (no fusermount, or the program is out of others' reach)`, () => undefined);

/** A repository, an image and a mount point that belong to nobody. */
async function nobodysScene(t: ExecutionContext): Promise<Lab> {
  const space = await mountLab(t, pool);
  writeMixed(space.at('img'), 'nobody', 3);
  await space.sync('v', space.at('img'));
  space.folder('mnt');
  sh('chown', '-R', `${NOBODY}:${NOBODY}`, space.root);
  return space;
}

/** Runs a script as nobody in a mount namespace of its own, in which /dev/fuse has the mode that udev gives it. */
async function asNobody(space: Lab, script: string): Promise<CliResult> {
  sh('mknod', space.at('fuse'), 'c', '10', '229');
  chmodSync(space.at('fuse'), 0o666);
  const inside = `mount --bind "$0" /dev/fuse && exec ${AS_NOBODY.join(' ')} sh -euc "$1" "$2" "$3"`;
  const command = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', inside, space.at('fuse'), script, process.execPath, MAIN];
  return await runUnder(space, command, { ...space.env, HOME: space.root });
}

function isFuseOpen(): boolean {
  const { mode } = statSync('/dev/fuse');
  return (mode & 0o006) === 0o006;
}

userTest('a user who may not open /dev/fuse is told so, and nothing is mounted', async (t) => {
  if (isFuseOpen()) {
    t.pass('here everybody may'); // the other test then needs no namespace, and covers it
    return;
  }
  const scene = await nobodysScene(t);
  for (const options of [[], ['--foreground']]) {
    const { status, stdout } = await runUnder(scene, [...AS_NOBODY, process.execPath, MAIN, 'mount', scene.at('mnt'), '--json', ...options]);
    t.is(status, 1);
    const { error } = JSON.parse(stdout);
    t.is(error.code, 'FUSE_UNAVAILABLE');
    t.is(error.path, '/dev/fuse');
  }
  await nothingLeft(t, scene);
  t.deepEqual(readdirSync(scene.at('mnt')), []);
});

userTest('a user who is not root mounts, reads and unmounts where /dev/fuse is open to all', async (t) => {
  const scene = await nobodysScene(t);
  const script = '"$0" "$1" mount mnt; ls mnt/v; cmp mnt/v/latest/image img; "$0" "$1" unmount mnt; ls mnt';
  const { status, stderr, stdout } = await asNobody(scene, script);
  t.is(status, 0, stderr);
  t.regex(stdout, /Mounted at .*\n\d{8}T\d{6}\.\d{3}Z\nlatest\nUnmounted/);
  await nothingLeft(t, scene);
});

userTest('a user who is not root replaces a dead mount', async (t) => {
  const scene = await nobodysScene(t);
  const killServer = `kill -9 $(sed 's/.*"pid":\\([0-9]*\\).*/\\1/' state/mounts/*.json)`;
  const script = `"$0" "$1" mount mnt; ${killServer}; while ls mnt >/dev/null 2>&1; do :; done; "$0" "$1" mount mnt; cmp mnt/v/latest/image img; "$0" "$1" unmount mnt`;
  const { status, stderr } = await asNobody(scene, script);
  t.is(status, 0, stderr);
  await nothingLeft(t, scene);
});

userTest('open and --allow-other tell a user who is not root what they need', async (t) => {
  const scene = await nobodysScene(t);
  const opened = await runUnder(scene, [...AS_NOBODY, process.execPath, MAIN, 'open', 'v', scene.at('mnt'), '--json']);
  t.is(opened.status, 1);
  t.is(JSON.parse(opened.stdout).error.code, 'PERMISSION_DENIED');
  t.regex(opened.stderr, /needs root/);
  const { status, stderr } = await asNobody(
    scene,
    '! grep -qs "^user_allow_other" /etc/fuse.conf || exit 77; exec "$0" "$1" mount --allow-other mnt',
  );
  if (status === 77) return; // this machine allows it
  t.is(status, 1);
  t.regex(stderr, /user_allow_other/);
  await nothingLeft(t, scene);
});

mountTest("root's mount is closed to others, and open to them with --allow-other", async (t) => {
  const space = await mountLab(t, pool);
  writeFileSync(space.at('img'), new Uint8Array(512).fill(65));
  await space.sync('v', space.at('img'));
  chmodSync(space.root, 0o755);
  chownSync(space.folder('mnt'), NOBODY, NOBODY);
  const readAsNobody = (): Promise<CliResult> => runUnder(space, [...AS_NOBODY, 'cat', space.at('mnt', 'v', 'latest', 'image')]);
  await space.ok('mount', space.at('mnt'));
  const refused = await readAsNobody();
  t.not(refused.status, 0);
  t.regex(refused.stderr, /Permission denied/);
  await space.ok('unmount', space.at('mnt'));
  await space.ok('mount', '--allow-other', space.at('mnt'));
  t.is((await readAsNobody()).stdout, 'A'.repeat(512));
  await space.ok('unmount', space.at('mnt'));
  await nothingLeft(t, space);
});
