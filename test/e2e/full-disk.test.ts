/** A repository on a disk without room: refused before, or failed in the middle, with nothing lost; and it goes on when there is room. */
import { readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { fill } from '../support/bytes.ts';
import { mountFileSystem } from '../support/file-systems.ts';
import { isSameFile } from '../support/images.ts';
import { BAND_256K, makeFastRepository } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { type CliResult, sh, type Workspace, workspace } from '../support/workspace.ts';

const MIB = 1_048_576;
const BANDS = 16;

interface SmallDisk extends Workspace {
  readonly mount: string;
  readonly image: string;
  /** Runs a command on the repository of the small disk. */
  run(...args: string[]): Promise<CliResult>;
  /** The same with --json. */
  document(...args: string[]): Promise<{ readonly status: number | null; readonly json: Record<string, unknown> }>;
  /** Writes new content to `bands` bands of the image, incompressible. */
  change(label: string, bands: number): void;
  /** Leaves at most so many bytes free. */
  fillUp(leftBytes: number): void;
}

async function smallDisk(t: ExecutionContext, options: readonly string[] = [], sizeMib = 24): Promise<SmallDisk> {
  const ws = workspace(t);
  const mount = mountFileSystem(ws, { name: 'ext4', make: ['mkfs.ext4', '-q', '-F', '-b', '4096', '-m', '0', ...options], sizeMib });
  const repo = `${mount}/repo`;
  await makeFastRepository(repo);
  const image = ws.at('disk.img');
  const run = (...args: string[]): Promise<CliResult> => ws.cliIn({ TIMEBAND_REPO: repo }, ...args);
  return {
    ...ws,
    repo,
    mount,
    image,
    run,
    async document(...args) {
      const { status, stdout } = await run(...args, '--json');
      return { status, json: JSON.parse(stdout) };
    },
    change: (label, bands) => writeParts(image, BANDS * BAND_256K, [{ at: 0, bytes: fill(label, bands * BAND_256K) }]),
    fillUp(leftBytes) {
      const free = Number(sh('df', '--output=avail', '-B1', mount).trim().split('\n').at(-1));
      sh('fallocate', '-l', String(Math.max(4096, free - leftBytes)), `${mount}/filler`);
    },
  };
}

/** Every session of the volume is whole, and the newest is the image. */
async function isWhole(t: ExecutionContext, disk: SmallDisk, sessions: number): Promise<void> {
  const check = await disk.document('check', '--data');
  t.is(check.status, 0);
  t.is(check.json['finishedSessions'], sessions);
  rmSync(disk.at('restored.img'), { force: true });
  t.is((await disk.run('restore', 'disk', disk.at('restored.img'))).status, 0);
}

test.serial('a sync for which there is certainly no room is refused before anything is read or written', async (t) => {
  const disk = await smallDisk(t);
  const data = [{ at: 0, bytes: fill('first', 4 * BAND_256K) }];
  writeParts(disk.image, 4096 * MIB, data); // 32 index pages of 32 KiB
  disk.fillUp(MIB / 2);
  const refused = await disk.run('sync', `disk=${disk.image}`, '--band-size', '256K');
  t.is(refused.status, 1);
  t.regex(
    refused.stderr,
    /a session of "disk" does not fit on the disk of .*: it takes at least 1\.\d MiB.*free: 0\.\d MiB.*Make room: "timeband prune"/,
  );
  t.deepEqual(readdirSync(`${disk.repo}/volumes`), [], 'no half volume');
  const { json } = await disk.document('sync', `disk=${disk.image}`, '--band-size', '256K');
  t.like(json, { error: { code: 'NO_SPACE', path: disk.repo } });
  rmSync(`${disk.mount}/filler`);
  const before = statfsSync(disk.mount);
  const { results } = JSON.parse((await disk.run('sync', `disk=${disk.image}`, '--band-size', '256K', '--json')).stdout);
  const after = statfsSync(disk.mount);
  const taken = { bytes: (before.bavail - after.bavail) * before.bsize, inodes: before.ffree - after.ffree };
  const { leastBytes, leastInodes, likelyBytes, likelyInodes } = results[0].space;
  t.true(leastBytes <= taken.bytes && leastInodes <= taken.inodes, `at least ${leastBytes} and ${leastInodes}: ${JSON.stringify(taken)}`);
  t.true(likelyBytes > 2 * MIB && likelyInodes >= 4 + 32 + 5, 'what was likely');
  await isWhole(t, disk, 1);
});

test.serial('a disk that becomes full in the middle of a sync: the user was warned, no session is made, the others stay whole', async (t) => {
  const disk = await smallDisk(t);
  disk.change('first', 4);
  t.is((await disk.run('sync', `disk=${disk.image}`, '--band-size', '256K')).status, 0);
  disk.change('second', BANDS);
  writeFileSync(disk.at('changed'), `0 ${BANDS * BAND_256K}\n`);
  disk.fillUp(2 * MIB);
  const changes = ['--changed-ranges', disk.at('changed'), '--since', 'latest'];
  const dry = await disk.document('sync', 'disk', '--dry-run');
  const [space] = (dry.json['results'] as { space: Record<string, number>; warnings: string[] }[]).map((one) => one.space);
  t.true((space?.['likelyBytes'] ?? 0) > 4 * MIB && (space?.['freeBytes'] ?? 0) <= 2 * MIB, JSON.stringify(space));
  t.regex((await disk.run('sync', 'disk', '--dry-run')).stderr, /may not fit/);
  const failed = await disk.run('sync', 'disk', ...changes);
  t.is(failed.status, 1);
  t.regex(
    failed.stderr,
    /warning: a session of "disk" may not fit on the disk of .*: it may take 4\.\d MiB and \d+ new file\(s\); free: [12]\.\d MiB/,
  );
  t.regex(failed.stderr, /"disk" was not backed up: cannot .* the disk is full.*every earlier one is as it was.*Make room/s);
  await isWhole(t, disk, 1);
  t.is((await disk.run('tag', 'disk@latest', 'kept')).status, 0, 'there is a little room');
  rmSync(`${disk.mount}/filler`);
  t.is((await disk.run('sync', 'disk', ...changes)).status, 0, 'it goes on');
  await isWhole(t, disk, 2);
  t.true(isSameFile(disk.at('restored.img'), disk.image));
});

test.serial('on a disk without a free byte labels stay as they are, sessions can be read, and prune makes room', async (t) => {
  const disk = await smallDisk(t);
  for (const label of ['first', 'second', 'third']) {
    disk.change(label, 8);
    t.is((await disk.run('sync', `disk=${disk.image}`, '--band-size', '256K', '--tag', label)).status, 0);
  }
  disk.fillUp(0);
  const tagged = await disk.run('tag', 'disk@latest', 'more');
  t.is(tagged.status, 1);
  t.regex(tagged.stderr, /disk is full/);
  t.like((await disk.document('show', 'disk@latest')).json, { tags: ['third'] });
  await isWhole(t, disk, 3);
  disk.change('fourth', 8);
  t.is((await disk.run('sync', 'disk')).status, 1);
  const pruned = await disk.document('prune', '--min-free', '3M', '--yes');
  t.is(pruned.status, 0);
  t.is((await disk.run('sync', 'disk')).status, 0, 'prune made room');
  await isWhole(t, disk, 2);
  t.true(isSameFile(disk.at('restored.img'), disk.image));
  t.deepEqual(readdirSync(`${disk.repo}/trash`), []);
});

test.serial('a disk without free inodes: warned of, no session, nothing lost, and it goes on when there are some', async (t) => {
  const disk = await smallDisk(t, ['-N', '64']);
  disk.change('first', 4);
  t.is((await disk.run('sync', `disk=${disk.image}`, '--band-size', '256K')).status, 0);
  await disk.shell(`i=0; while touch '${disk.mount}'/inode-$i; do i=$((i+1)); done; rm '${disk.mount}'/inode-[0-9]`);
  disk.change('second', BANDS);
  const forced = await disk.run('sync', 'disk', '--force');
  t.is(forced.status, 1);
  t.regex(forced.stderr, /"disk" was not backed up: cannot .* the disk is full.*free now.*and \d+ file\(s\)/is);
  rmSync(`${disk.mount}/inode-10`);
  await disk.shell(`while touch '${disk.mount}'/more-$i; do i=x$i; done`);
  const none = await disk.run('sync', 'disk', '--force');
  t.is(none.status, 1);
  t.regex(none.stderr, /"disk" (?:does not fit|was not backed up).*free(?: now)?: .* and 0 file\(s\)/is);
  await isWhole(t, disk, 1);
  await disk.shell(`rm '${disk.mount}'/more-* '${disk.mount}'/inode-*`);
  t.is((await disk.run('sync', 'disk')).status, 0);
  await isWhole(t, disk, 2);
  t.true(isSameFile(disk.at('restored.img'), disk.image));
});
