/** sync, restore and their neighbours as a user types them. */
import { mkdirSync, readFileSync, readlinkSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fill } from '../support/bytes.ts';
import { makeFastRepository } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { sh, type Workspace, workspace } from '../support/workspace.ts';

const BAND = 262_144;

async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  writeParts(ws.at('disk.img'), 8 * BAND, [{ at: 0, bytes: fill('disk', 5 * BAND) }]);
  return ws;
}

function change(ws: Workspace, label: string): void {
  writeParts(ws.at('disk.img'), 8 * BAND, [{ at: 2 * BAND, bytes: fill(label, 600) }]);
}

/** All that a tree of files is, but the times of reading. */
function snapshot(folder: string): string {
  return sh('find', folder, '-printf', '%P %y %i %s %m %n %T@ %l\n');
}

test.serial('a dry run stores nothing and predicts what the sync then does, the first time and later', async (t) => {
  const ws = await ready(t);
  const fields = ({ bands, zeroBands, changedBands, writtenBands, readBytes, writtenBytes, storedBytes }: Record<string, unknown>) => ({
    bands,
    zeroBands,
    changedBands,
    writtenBands,
    readBytes,
    writtenBytes,
    storedBytes,
  });
  for (const label of ['first', 'second', 'third']) {
    change(ws, label);
    const before = snapshot(ws.repo);
    const [dry] = (await ws.json('sync', `disk=${ws.at('disk.img')}`, '--dry-run', '--band-size', '256K')).results;
    t.is(dry.status, 'dry-run');
    t.is(snapshot(ws.repo), before, 'the repository is as it was');
    const [real] = (await ws.json('sync', `disk=${ws.at('disk.img')}`, '--band-size', '256K')).results;
    t.is(real.status, 'created');
    t.deepEqual(fields(dry), fields(real));
  }
});

test.serial('where nothing changed no session is made, it says so, and --force makes one that costs no data', async (t) => {
  const ws = await ready(t);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  const sessions = (): string => sh('find', path.join(ws.repo, 'volumes'), '-path', '*/sessions*', '-printf', '%P %i %s %n %T@\n');
  const before = sessions();
  const { status, stdout } = await ws.cli('sync', 'disk');
  t.is(status, 0);
  t.regex(stdout, /nothing changed/);
  sh('touch', ws.at('disk.img'));
  t.is((await ws.cli('sync', 'disk')).status, 0);
  t.is(sessions(), before);
  const [forced] = (await ws.json('sync', 'disk', '--force')).results;
  t.like(forced, { status: 'created', writtenBands: 0, writtenBytes: 0, changedBands: 0 });
  t.is((await ws.json('sessions')).sessions.length, 2);
});

test.serial('the summary tells what was read, changed, stored and linked', async (t) => {
  const ws = await ready(t);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`, '--band-size', '256K');
  change(ws, 'again');
  t.regex(
    await ws.ok('sync', 'disk'),
    /disk: session \d{8}T\d{6}\.\d{3}Z\n.*1 of 8 bands changed; 1 stored.*4 linked, 3 zero\n.*read 1\.3 MiB of 2\.0 MiB/,
  );
});

test.serial('a volume is restored by id, latest, steps back, tag, date and time', async (t) => {
  const ws = await ready(t);
  const copies: { id: string; image: string }[] = [];
  for (const tag of ['one', 'two', 'three']) {
    change(ws, tag);
    const [{ session }] = (await ws.json('sync', `work/disk=${ws.at('disk.img')}`, '--tag', tag, 'any')).results;
    sh('cp', ws.at('disk.img'), ws.at(`${tag}.img`));
    copies.push({ id: session, image: ws.at(`${tag}.img`) });
  }
  const [one, two, three] = copies;
  const iso = (id = ''): string => id.replace(/^(....)(..)(..)T(..)(..)/, '$1-$2-$3T$4:$5:');
  const next = String(new Date().getFullYear() + 1);
  for (const [spec, expected] of [
    ['', three],
    ['@latest', three],
    ['@latest~2', one],
    ['@two', two],
    ['@any', three],
    [`@${two?.id}`, two],
    [`@${iso(two?.id)}`, two],
    [`@${next}-01-01`, three],
  ] as const) {
    await ws.ok('restore', `work/disk${spec}`, ws.at('out.img'), '--overwrite');
    t.is(firstWrongByte(ws.at('out.img'), expected?.image ?? ''), undefined, spec);
  }
});

test.serial('a remembered source is found from another folder, and a new place is remembered when it is named', async (t) => {
  const ws = await ready(t);
  await ws.shell('timeband sync disk=disk.img');
  t.is((await ws.json('volumes')).volumes[0].source.location, ws.at('disk.img'), 'a relative path is remembered as an absolute one');
  mkdirSync(ws.at('elsewhere'));
  t.is((await ws.shell('cd elsewhere && timeband sync disk')).status, 0);
  renameSync(ws.at('disk.img'), ws.at('moved.img'));
  t.is((await ws.cli('sync', 'disk')).status, 1);
  t.is((await ws.cli('sync', `disk=${ws.at('moved.img')}`)).status, 0);
  t.is((await ws.cli('sync', 'disk')).status, 0);
  symlinkSync('moved.img', ws.at('link.img'));
  t.is((await ws.cli('sync', `linked=${ws.at('link.img')}`)).status, 0);
  t.is((await ws.json('volumes')).volumes[1].source.location, ws.at('link.img'), 'a link is remembered as a link');
  t.is(readlinkSync(ws.at('link.img')), 'moved.img');
});

test.serial('a source path may hold "="; a block device is a source like a file', async (t) => {
  const ws = await ready(t);
  renameSync(ws.at('disk.img'), ws.at('a=b c.img'));
  await ws.ok('sync', `disk=${ws.at('a=b c.img')}`);
  const loop = sh('losetup', '--find', '--show', '--read-only', ws.at('a=b c.img')).trim();
  const [device] = (await ws.json('sync', `device=${loop}`)).results;
  t.like(device, { status: 'created', source: { kind: 'device', location: loop }, sizeBytes: 8 * BAND });
  await ws.ok('restore', 'device', ws.at('out.img'));
  t.is(firstWrongByte(ws.at('out.img'), ws.at('a=b c.img')), undefined);
  sh('losetup', '--detach', loop);
});

test.serial('a device that is mounted read-write is synced with a warning', async (t) => {
  const ws = await ready(t);
  sh('truncate', '-s', '16M', ws.at('fs.img'));
  const loop = sh('losetup', '--find', '--show', ws.at('fs.img')).trim();
  sh('mkfs.ext4', '-q', loop);
  sh('mount', loop, ws.folder('mnt'));
  const { status, stderr } = await ws.cli('sync', `device=${loop}`, '--quiet');
  t.is(status, 0);
  t.regex(stderr, /warning: .*mounted read-write at .*mnt/);
  sh('umount', ws.at('mnt'));
  sh('losetup', '--detach', loop);
});

test.serial('all that is made is for its owner only, under umask 000', async (t) => {
  const ws = workspace(t);
  writeParts(ws.at('disk.img'), 8 * BAND, [{ at: 0, bytes: fill('disk', BAND) }]);
  const { status, stderr } = await ws.shell(
    'umask 000; timeband init && timeband sync disk=disk.img --tag a && timeband restore disk out.img && mkdir mnt && timeband mount mnt && timeband unmount mnt',
  );
  t.is(status, 0, stderr);
  t.is(sh('find', ws.repo, ws.at('out.img'), '-perm', '/077'), '');
  t.is(sh('find', ws.repo, '-type', 'f', '!', '-perm', '600'), '');
  t.is(sh('find', ws.at('state'), '-type', 'd', '-perm', '/077'), '');
});

test.serial('a repository is named with --repo, before or after the command, or with TIMEBAND_REPO', async (t) => {
  const ws = await ready(t);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  renameSync(ws.repo, ws.at('moved'));
  t.is((await ws.cli('volumes')).status, 10);
  t.is((await ws.cli('--repo', ws.at('moved'), 'volumes')).status, 0);
  t.is((await ws.cli('volumes', '--repo', ws.at('moved'))).status, 0);
  t.is((await ws.cliIn({ TIMEBAND_REPO: ws.at('moved') }, 'volumes')).status, 0);
  t.is((await ws.shell('timeband --repo moved volumes')).status, 0);
});

test.serial('progress is drawn on a terminal, and not with --quiet or for a short command elsewhere', async (t) => {
  const ws = await ready(t);
  writeParts(ws.at('disk.img'), 400 * BAND, [{ at: 0, bytes: fill('disk', 100 * BAND) }]);
  const onTerminal = (args: string): Promise<{ stdout: string }> =>
    ws.shell(`script --quiet --return --command '"${process.execPath}" "${ws.program}" ${args}' /dev/null < /dev/null`);
  const { stdout } = await onTerminal(`sync disk=${ws.at('disk.img')}`);
  t.true(stdout.includes('\r\u001b[Kdisk: ['), 'the line is drawn anew in its place');
  t.regex(stdout, /disk: \[[#-]{24}\] \d+\/\d+ bands, .*MiB/);
  t.is((await onTerminal('sync disk --force --quiet')).stdout, '');
  t.is((await onTerminal('check --data --quiet')).stdout, '');
  t.is((await ws.cli('sync', 'disk', '--force')).stderr, '');
});

test.serial('two volumes of names that lie within each other are two volumes', async (t) => {
  const ws = await ready(t);
  writeFileSync(ws.at('small.img'), fill('small', 512));
  await ws.ok('sync', `a=${ws.at('disk.img')}`, `a/b=${ws.at('small.img')}`, `a/b/c=${ws.at('disk.img')}`);
  const mount = ws.folder('mnt');
  await ws.ok('mount', mount);
  t.is(firstWrongByte(`${mount}/a/latest/image`, ws.at('disk.img')), undefined);
  t.is(firstWrongByte(`${mount}/a/b/latest/image`, ws.at('small.img')), undefined);
  t.is(firstWrongByte(`${mount}/a/b/c/latest/image`, ws.at('disk.img')), undefined);
  t.is(statSync(`${mount}/a/b/latest/image`).size, 512);
  await ws.ok('unmount', mount);
  t.is(readFileSync(ws.at('small.img')).length, 512);
});
