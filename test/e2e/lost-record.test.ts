/** One volume's files are empty, gone, or cannot be read from the disk: that must not touch another volume. */
import { closeSync, openSync, readFileSync, renameSync, truncateSync, writeSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { fill } from '../support/bytes.ts';
import { mountFileSystem } from '../support/file-systems.ts';
import { isSameFile } from '../support/images.ts';
import { BAND_256K, makeFastRepository } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { PASSPHRASE, sh, type Workspace, workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

const BAD = ['empty-record', 'rotten-record', 'no-sessions', 'empty-manifest'] as const;

interface Scene {
  readonly image: string;
  /** Folders of the volumes by name, and of their newest sessions. */
  readonly folders: ReadonlyMap<string, string>;
  readonly newest: ReadonlyMap<string, string>;
}

/** Volumes of the same image, two sessions each. */
async function makeVolumes(ws: Workspace, repo: string): Promise<Scene> {
  await makeFastRepository(repo);
  using repository = await Repository.open(repo, { passphrase: PASSPHRASE });
  const image = ws.at('disk.img');
  const [folders, newest] = [new Map<string, string>(), new Map<string, string>()];
  for (const label of ['first', 'second']) {
    writeParts(image, 4 * BAND_256K, [{ at: 0, bytes: fill(label, 2 * BAND_256K) }]);
    for (const name of [...BAD, 'good']) {
      const { session = '' } = await syncVolume(repository, { name, location: image, bandBytes: BAND_256K }, { pool });
      const volume = await repository.volume(name);
      folders.set(name, volume.layout.root);
      newest.set(name, volume.sessionPath(session));
    }
  }
  return { image, folders, newest };
}

/** Overwrites a file's block on the device under a file system, so that its checksum differs from then on: reading it is EIO. */
function rotOnDisk(device: string, bytes: Uint8Array): void {
  const at = readFileSync(device).indexOf(bytes);
  if (at < 0) throw new Error('the file is not on the disk as it is');
  const fd = openSync(device, 'r+');
  writeSync(fd, new Uint8Array(16).fill(0xdd), 0, 16, at + 8);
  closeSync(fd);
}

test.serial('volumes with an empty record, one that the disk gives EIO for, or no sessions, do not touch another volume', async (t) => {
  const ws = workspace(t);
  const disk = { name: 'btrfs', make: ['mkfs.btrfs', '-q', '-f'], sizeMib: 128, options: 'max_inline=0' };
  const mount = mountFileSystem(ws, disk);
  const repo = path.join(mount, 'repo');
  const { image, folders, newest } = await makeVolumes(ws, repo);
  const folder = (name: (typeof BAD)[number]): string => folders.get(name) ?? '';
  truncateSync(path.join(folder('empty-record'), 'volume'), 0);
  renameSync(path.join(folder('no-sessions'), 'sessions'), path.join(folder('no-sessions'), 'elsewhere'));
  truncateSync(path.join(newest.get('empty-manifest') ?? '', 'manifest'), 0);
  const rotten = path.join(folder('rotten-record'), 'volume');
  const record = Uint8Array.from(readFileSync(rotten));
  sh('umount', mount);
  rotOnDisk(ws.at('mnt.fs'), record);
  sh('mount', '-o', 'loop', ws.at('mnt.fs'), mount);
  t.throws(() => readFileSync(rotten), { code: 'EIO' });

  const run = (...args: string[]): ReturnType<Workspace['cliIn']> => ws.cliIn({ TIMEBAND_REPO: repo }, ...args);
  const unreadable = ['empty-record', 'rotten-record', 'no-sessions'].map((name) => path.basename(folders.get(name) ?? '')).sort();
  for (const [command, key] of [
    ['volumes', 'damaged'],
    ['sessions', 'damagedVolumes'],
  ] as const) {
    const { status, stdout, stderr } = await run(command, '--json');
    t.is(status, 3);
    const document = JSON.parse(stdout);
    t.deepEqual(document[key].map(({ id }: { id: string }) => id).sort(), unreadable, command);
    t.deepEqual([...new Set(document[command].map(({ name, volume }: Record<string, string>) => name ?? volume))].sort(), ['empty-manifest', 'good']);
    t.regex(stderr, /empty-manifest@\S+ is damaged/);
  }
  for (const command of [['stats'], ['check'], ['prune', '--keep-last', '1', '--dry-run']]) {
    const { status, stdout } = await run(...command, '--json');
    t.is(status, 3, command[0]);
    t.regex(stdout, /"good"/, command[0]);
  }
  const target = ws.at('restored.img');
  for (const command of [
    ['restore', 'good', target],
    ['check', 'good', '--data'],
    ['sync', 'good', '--force'],
    ['tag', 'good@latest', 'tagged'],
  ])
    t.is((await run(...command)).status, 0, command.join(' '));
  t.true(isSameFile(target, image));
  const mnt = ws.folder('past');
  t.is((await run('mount', mnt)).status, 0);
  t.is(Buffer.compare(readFileSync(path.join(mnt, 'good', 'latest', 'image')), readFileSync(image)), 0);
  t.is((await run('unmount', mnt)).status, 0);
  const refused = await run('sync', `new=${image}`);
  t.is(refused.status, 13, 'one of those that cannot be read may be meant');
  t.regex(refused.stderr, /timeband check/);
});
