/** qcow2 images as sources: what their bitmaps are believed, and what is left behind when things go wrong. */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { Repository } from '../../../src/repository.ts';
import { restoreSession } from '../../../src/restore.ts';
import { chooseSource } from '../../../src/sources/open-source.ts';
import { qcow2Driver } from '../../../src/sources/qcow2/qcow2-source.ts';
import type { SyncOptions, SyncResult } from '../../../src/sync/request.ts';
import { sameBytes } from '../../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab, makeFastRepository, openNamed } from '../../support/library.ts';
import { readPart, writeParts } from '../../support/parts.ts';
import { ended } from '../../support/processes.ts';
import { bitmapsOf, diskOf, exporterFolders, makeQcow2, processesNaming, qemuIo, serve, serveImage } from '../../support/qemu.ts';
import { PASSPHRASE, sh } from '../../support/workspace.ts';

const MIB = 1_048_576;
const DISK_BYTES = 64 * MIB;
const temporary = mkdtempSync(path.join(tmpdir(), 'tb-'));
process.env['TMPDIR'] = temporary; // exporters' folders of this file only
const pool: BandPool = new BandPool();
test.after.always(async () => {
  await pool.close();
  rmSync(temporary, { recursive: true });
});

interface Scene extends Lab {
  readonly image: string;
  /** Syncs "disk" with a state folder. */
  sync1(location?: string, options?: Partial<SyncOptions>): Promise<SyncResult>;
}

async function scene(t: ExecutionContext, name = 'disk.qcow2'): Promise<Scene> {
  const at = await lab(t, pool);
  const image = at.at(name);
  makeQcow2(image, DISK_BYTES);
  qemuIo(image, `write -P 1 0 ${30 * MIB}`);
  return {
    ...at,
    image,
    sync1: (location, options = {}) => at.sync('disk', location, options, { stateDirectory: at.at('state') }),
  };
}

/** The session holds what QEMU reads now; nothing that was started is left; one bitmap is. */
async function verify(t: ExecutionContext, at: Scene, result: SyncResult, more: { image?: string; bitmaps?: number } = {}): Promise<void> {
  const { image = at.image, bitmaps = 1 } = more;
  const [target, raw] = [at.at(`${result.session}.img`), at.at('raw')];
  await restoreSession({ session: await at.session(result.volume, result.session), target, pool });
  sameBytes(t, readPart(target, 0, DISK_BYTES + 1), diskOf(image, raw));
  rmSync(target);
  t.is(bitmapsOf(image).length, bitmaps, 'bitmaps');
  leavesNothing(t, at);
}

function leavesNothing(t: ExecutionContext, at: Scene): void {
  t.deepEqual(processesNaming(at.image), []);
  t.deepEqual(exporterFolders(temporary), []);
  const state = readdirSync(at.at('state'), { recursive: true, encoding: 'utf8' });
  t.deepEqual(
    state.filter((name) => name.includes('.exporter') || name.includes('.tmp-')),
    [],
  );
}

function isFull(t: ExecutionContext, result: SyncResult, why: RegExp): void {
  t.is(result.warnings.length, 1, result.warnings.join('\n'));
  t.regex(result.warnings[0] ?? '', /^reading everything: /);
  t.regex(result.warnings[0] ?? '', why);
}

const digest = (file: string): string => `${createHash('sha256').update(readFileSync(file)).digest('hex')} ${statSync(file).mtimeMs}`;

test.serial('a sync reads what the bitmap names, and remembers where the disk is', async (t) => {
  const at = await scene(t);
  const first = await at.sync1(at.image);
  t.deepEqual([first.source.kind, first.warnings], ['qcow2', []]);
  await verify(t, at, first);
  const [bitmap] = bitmapsOf(at.image);
  t.regex(bitmap?.name ?? '', new RegExp(`^timeband-${at.repository.id}-[0-9a-f]{32}-[0-9a-f]{16}$`));

  qemuIo(at.image, `write -P 2 ${5 * MIB + 3} 10`, `discard ${20 * MIB} 1M`);
  const second = await at.sync1();
  t.deepEqual(second.warnings, []);
  t.is(second.changedBands, 5);
  t.true(second.readBytes <= (5 + 16 + 8) * BAND_256K, `read ${second.readBytes} bytes: those bands, the sample and the marks`);
  await verify(t, at, second);

  const third = await at.sync1();
  t.is(third.status, 'unchanged');
  await verify(t, at, third);
  t.not(bitmapsOf(at.image)[0]?.name, bitmap?.name, 'it was rotated');
});

for (const [how, name, location] of [
  ['a comma', 'a,b=c,format=raw.qcow2', ''],
  ['a new line', 'a\nb.qcow2', ''],
  ['JSON', 'json:{"driver":"raw"}', ''],
  ['a protocol', 'nbd:localhost', 'qcow2:'],
  ['a dash', '-o', 'qcow2:'],
  ['a letter of another alphabet', 'диск %20.qcow2', 'qcow2:'],
] as const) {
  test.serial(`an image with ${how} in its name is only that file`, async (t) => {
    const at = await scene(t);
    const image = at.at(name);
    renameSync(at.image, image);
    const result = await at.sync1(location + image);
    t.deepEqual([result.source, result.warnings], [{ kind: 'qcow2', location: location + image }, []]);
    renameSync(image, at.image);
    await verify(t, at, result);
    renameSync(at.image, image);
    t.is((await at.sync1()).status, 'unchanged');
  });
}

test.serial('a writer that is killed leaves a bitmap that is not believed, once', async (t) => {
  const at = await scene(t);
  await at.sync1(at.image);
  const socket = at.at('writer');
  const writer = await serveImage(t, socket, '-f', 'qcow2', '-x', 'disk', at.image);
  sh('qemu-io', '-f', 'raw', '-c', `write -P 5 ${40 * MIB} 1M`, '-c', 'write -P 6 77 10', '-c', 'flush', `nbd+unix:///disk?socket=${socket}`);
  const end = ended(writer);
  writer.kill('SIGKILL');
  await end;
  t.true(bitmapsOf(at.image)[0]?.flags.includes('in-use'));
  const second = await at.sync1();
  isFull(t, second, /whoever wrote to the image was killed/);
  t.is(second.changedBands, 5);
  await verify(t, at, second);
  qemuIo(at.image, 'write -P 9 1M 512');
  const third = await at.sync1();
  t.deepEqual([third.warnings, third.changedBands], [[], 1]);
  await verify(t, at, third);
});

test.serial('an image that a VM uses is LOCKED, and is not touched', async (t) => {
  const at = await scene(t);
  await at.sync1(at.image);
  const writer = await serveImage(t, at.at('writer'), '-f', 'qcow2', '-x', 'disk', at.image);
  const error = await t.throwsAsync(at.sync1());
  t.regex(error?.message ?? '', /nbd\+unix:\/\//);
  t.is(await codeOf(() => at.sync1(undefined, { isDryRun: true })), 'LOCKED');
  t.is(bitmapsOf(at.image).length, 1);
  const end = ended(writer);
  writer.kill('SIGTERM');
  await end;
  const after = await at.sync1();
  t.deepEqual([after.status, after.warnings], ['unchanged', []]);
});

test.serial('a dry run changes nothing in the image, and starts nothing that stays', async (t) => {
  const at = await scene(t);
  const before = digest(at.image);
  t.is((await at.sync1(at.image, { isDryRun: true })).changedBands, 120);
  t.is(digest(at.image), before);
  await at.sync1(at.image);
  qemuIo(at.image, 'write -P 3 0 1');
  const bound = digest(at.image);
  const dry = await at.sync1(undefined, { isDryRun: true });
  t.deepEqual([dry.changedBands, dry.warnings], [1, []]);
  t.true(dry.readBytes <= (1 + 16 + 8) * BAND_256K, 'it uses the bitmap');
  t.is(digest(at.image), bound);
  leavesNothing(t, at);
});

test.serial('an exporter that is killed fails the sync, and the next one counts from the right session', async (t) => {
  const at = await scene(t);
  const first = await at.sync1(at.image);
  qemuIo(at.image, `write -P 4 0 ${25 * MIB}`);
  let kills = 0;
  const onProgress = (): void => {
    for (const pid of kills === 0 ? processesNaming(at.image) : []) {
      process.kill(pid, 'SIGKILL');
      kills++;
    }
  };
  t.is(await codeOf(() => at.sync1(undefined, { onProgress })), 'SOURCE_UNREADABLE');
  t.is(kills, 1);
  t.is(bitmapsOf(at.image).length, 1, 'the next bitmap was removed');
  leavesNothing(t, at);
  const second = await at.sync1();
  t.deepEqual([second.base, second.warnings, second.changedBands], [first.session, [], 100]);
  await verify(t, at, second);
});

test.serial('an exporter that a killed sync left is ended by the next one', async (t) => {
  const at = await scene(t);
  await at.sync1(at.image);
  const left = at.at('timeband-nbd-0123456789abcdef');
  at.folder('timeband-nbd-0123456789abcdef');
  const { id } = await at.repository.volume('disk');
  writeFileSync(at.at('state', at.repository.id, 'qcow2', `${id}.exporter`), left);
  const socket = path.join(left, 'nbd.sock');
  const exporter = await serve(t, socket, 'qemu-nbd', '--read-only', `--socket=${socket}`, '-f', 'qcow2', at.image);
  const end = ended(exporter);
  t.is((await at.sync1()).status, 'unchanged');
  t.is((await end).signal, 'SIGKILL');
  t.false(existsSync(left));
  t.is(bitmapsOf(at.image).length, 1);
  leavesNothing(t, at);
});

test.serial('without setpriv the exporter is started by itself', async (t) => {
  const at = await scene(t);
  const bin = at.folder('bin');
  for (const tool of ['qemu-img', 'qemu-io', 'qemu-nbd', 'sync']) symlinkSync(sh('which', tool).trim(), path.join(bin, tool));
  const result = await at.cliIn({ PATH: bin }, 'sync', `disk=${at.image}`, '--band-size', '256K');
  t.deepEqual([result.status, bitmapsOf(at.image).length], [0, 1], result.stderr);
  leavesNothing(t, at);
});

test.serial('a sync that is aborted leaves the image as it was', async (t) => {
  const at = await scene(t);
  await at.sync1(at.image);
  qemuIo(at.image, `write -P 4 0 ${25 * MIB}`);
  const abort = new AbortController();
  t.is(await codeOf(() => at.sync1(undefined, { signal: abort.signal, onProgress: () => abort.abort() })), 'INTERRUPTED');
  t.is(bitmapsOf(at.image).length, 1);
  leavesNothing(t, at);
  await verify(t, at, await at.sync1());
});

test.serial('a repository that is put back to an older copy gets the right bytes', async (t) => {
  const at = await scene(t);
  await at.sync1(at.image);
  cpSync(at.repo, at.at('old'), { recursive: true, preserveTimestamps: true });
  qemuIo(at.image, 'write -P 5 3M 1M');
  await at.sync1();
  rmSync(at.repo, { recursive: true });
  renameSync(at.at('old'), at.repo);
  qemuIo(at.image, 'write -P 6 9M 1M');
  const result = await at.sync1(undefined, { acceptsRollback: true });
  isFull(t, result, /no bitmap in .* for the newest session/);
  t.is(result.changedBands, 8);
  await verify(t, at, result);
});

test.serial('an image that is put back to an older copy of itself gives the right bytes', async (t) => {
  const at = await scene(t);
  await at.sync1(at.image);
  cpSync(at.image, at.at('copy-1'));
  qemuIo(at.image, 'write -P 5 3M 1M');
  cpSync(at.image, at.at('copy-2'));
  await at.sync1();
  qemuIo(at.image, 'write -P 6 5M 1M');
  for (const copy of ['copy-2', 'copy-1', 'copy-2']) {
    cpSync(at.at(copy), at.image);
    const result = await at.sync1();
    isFull(t, result, /is not in .* any more/);
    await verify(t, at, result);
  }
});

test.serial('a bitmap that is gone, is another, or was switched off is not believed', async (t) => {
  const at = await scene(t);
  await at.sync1(at.image);
  const own = (): string => bitmapsOf(at.image).find(({ name }) => name.startsWith('timeband'))?.name ?? '';
  const replaced = own();
  sh('qemu-img', 'bitmap', '--remove', at.image, replaced);
  sh('qemu-img', 'bitmap', '--add', at.image, `${replaced.slice(0, -1)}x`);
  qemuIo(at.image, 'write -P 5 3M 1M');
  const second = await at.sync1();
  isFull(t, second, /is not in .* any more/);
  await verify(t, at, second);

  sh('qemu-img', 'bitmap', '--disable', at.image, own());
  qemuIo(at.image, 'write -P 6 4M 1M');
  const third = await at.sync1();
  isFull(t, third, /switched off/);
  await verify(t, at, third);
  const cleared = own();
  qemuIo(at.image, 'write -P 7 5M 1M');
  sh('qemu-img', 'bitmap', '--clear', at.image, cleared);
  const full = await at.sync1();
  isFull(t, full, /cleared or replaced/);
  await verify(t, at, full);
  const same = own();
  sh('qemu-img', 'bitmap', '--remove', at.image, same);
  qemuIo(at.image, 'write -P 8 6M 1M');
  sh('qemu-img', 'bitmap', '--add', at.image, same);
  const again = await at.sync1();
  isFull(t, again, /cleared or replaced/);
  await verify(t, at, again);
  sh('qemu-img', 'bitmap', '--add', at.image, 'of-somebody-else');
  const fourth = await at.sync1();
  t.is(fourth.status, 'unchanged');
  await verify(t, at, fourth, { bitmaps: 2 });
});

test.serial('two repositories, and two volumes, back up one image, each by its own bitmap', async (t) => {
  const at = await scene(t);
  await makeFastRepository(at.at('second'));
  const second = await Repository.open(at.at('second'), { passphrase: PASSPHRASE });
  t.teardown(() => second.close());
  const other: Scene = { ...at, repository: second, session: (name, spec) => openNamed(second, name, spec) };
  const environment = { pool, stateDirectory: at.at('state') };
  const { syncVolume } = await import('../../../src/sync/sync.ts');
  const syncs = [
    async () => [at, await at.sync1(at.image)] as const,
    async () => [other, await syncVolume(second, { name: 'disk', location: at.image, bandBytes: BAND_256K }, environment)] as const,
    async () => [at, await at.sync('twin', at.image, {}, environment)] as const,
  ];
  for (let round = 0; round < 3; round++) {
    for (const [i, sync] of syncs.entries()) {
      qemuIo(at.image, `write -P ${round * 3 + i + 20} ${(round * 7 + i * 3) * MIB} 300k`);
      const [where, result] = await sync();
      t.deepEqual(result.warnings, []);
      await verify(t, where, result, { bitmaps: round === 0 ? i + 1 : 3 });
    }
  }
  const volume = await at.repository.volume('twin');
  const owner = { repositoryId: at.repository.id, volumeId: volume.id };
  t.is((await qcow2Driver.forget(at.image, { owner, stateDirectory: at.at('state'), isDryRun: false })).length, 1);
  t.is(bitmapsOf(at.image).length, 2);
  isFull(t, await at.sync('twin', at.image, {}, environment), /kept no bitmap/);
});

test.serial('a backing file is read only by the name qcow2:, and a change of it is not missed', async (t) => {
  const at = await scene(t);
  const overlay = at.at('overlay.qcow2');
  const setTime = (seconds: number): void => utimesSync(at.image, seconds, seconds);
  setTime(Date.now() / 1000 + 60); // just now: the next write might leave the same time
  makeQcow2(overlay, DISK_BYTES, '-b', at.image, '-F', 'qcow2');
  qemuIo(overlay, 'write -P 8 1M 1M');
  t.is(await codeOf(() => at.sync1(overlay)), 'SOURCE_INVALID');
  const check = async (result: SyncResult): Promise<void> => verify(t, at, result, { image: overlay });
  await check(await at.sync1(`qcow2:${overlay}`));
  qemuIo(overlay, 'write -P 9 3M 1M', 'discard 1M 1M');
  setTime(1e9);
  isFull(t, await at.sync1(), /backing file .* changed/);
  qemuIo(overlay, 'write -P 10 6M 1M');
  const known = await at.sync1();
  t.deepEqual([known.warnings, known.changedBands], [[], 4]);
  await check(known);
  qemuIo(at.image, 'write -P 11 9M 1M');
  setTime(1e9);
  const changed = await at.sync1();
  isFull(t, changed, /backing file .* changed/);
  t.is(changed.changedBands, 4);
  await check(changed);
});

test.serial('the data of an external data file is read in full', async (t) => {
  const at = await scene(t);
  const image = at.at('meta.qcow2');
  makeQcow2(image, DISK_BYTES, '-o', `data_file=${at.at('data.raw')},data_file_raw=on`);
  t.is(await codeOf(() => at.sync1(image)), 'SOURCE_INVALID');
  await at.sync1(`qcow2:${image}`);
  writeParts(at.at('data.raw'), DISK_BYTES, [{ at: 7 * MIB, bytes: new Uint8Array(5).fill(1) }]);
  const result = await at.sync1();
  isFull(t, result, /behind the back of any bitmap/);
  await verify(t, at, result, { image, bitmaps: 0 });
});

/** qemu-img measures how fast it hashes before it encrypts, which fails now and then on a busy machine. */
function makeEncrypted(image: string): void {
  for (let attempt = 1; ; attempt++) {
    try {
      const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=100';
      sh('qemu-img', 'create', '-q', '-f', 'qcow2', '--object', 'secret,id=s,data=x', '-o', options, image, '8M');
      return;
    } catch (error) {
      if (attempt === 10) throw error;
    }
  }
}

test.serial('an image that is corrupt, encrypted, no qcow2 or missing is refused', async (t) => {
  const at = await scene(t);
  const header = readPart(at.image, 72, 8);
  header[7] = (header[7] ?? 0) | 2;
  writeParts(at.image, statSync(at.image).size, [{ at: 72, bytes: header }]);
  t.is(await codeOf(() => at.sync1(at.image)), 'SOURCE_INVALID');
  makeEncrypted(at.at('luks'));
  t.is(await codeOf(() => at.sync1(at.at('luks'))), 'UNSUPPORTED');
  writeParts(at.at('raw.img'), MIB, [{ at: 5, bytes: new Uint8Array(3).fill(7) }]);
  t.is(await codeOf(() => at.sync1(`qcow2:${at.at('raw.img')}`)), 'SOURCE_INVALID');
  t.is(await codeOf(() => at.sync1(at.at('raw.img'), { sourceKind: 'qcow2' })), 'SOURCE_INVALID');
  t.is(await codeOf(() => at.sync1(`qcow2:${at.at('none')}`)), 'SOURCE_NOT_FOUND');
  t.is(await codeOf(() => at.sync1(`qcow2:${at.root}`)), 'SOURCE_INVALID');
  t.deepEqual(readdirSync(path.join(at.repo, 'volumes')), []);
});

test.serial('a raw disk whose guest writes a qcow2 header is not read as what that describes', async (t) => {
  const at = await scene(t);
  const raw = at.at('raw.img');
  writeParts(raw, 8 * MIB, [{ at: 100_000, bytes: new Uint8Array(9).fill(9) }]);
  t.is((await at.sync('raw', raw)).source.kind, 'image');
  const evil = at.at('evil.qcow2');
  sh('mkfifo', at.at('fifo')); // whoever opens it waits for ever
  makeQcow2(evil, DISK_BYTES, '-u', '-b', at.at('fifo'), '-F', 'raw');
  writeParts(raw, 8 * MIB, [{ at: 0, bytes: readFileSync(evil).subarray(0, 500_000) }]);
  t.is(await codeOf(() => at.sync('raw')), 'SOURCE_INVALID');
  t.is(await codeOf(() => at.sync('new', raw)), 'SOURCE_INVALID', 'nor in a first sync');
  const result = await at.sync('raw', undefined, { sourceKind: 'image' });
  t.is(result.source.kind, 'image');
  await restoreSession({ session: await at.session('raw'), target: at.at('out'), pool });
  sameBytes(t, readFileSync(at.at('out')), readFileSync(raw));
});

test.serial('the source of a location is chosen by what it is', async (t) => {
  const at = await scene(t);
  const kind = async (location: string): Promise<string> => (await chooseSource(location)).driver.kind;
  t.is(await kind(at.image), 'qcow2');
  t.is(await kind(`qcow2:${at.image}`), 'qcow2');
  t.is(await kind('nbd://localhost/x'), 'nbd');
  t.is(await kind('nbd+unix:///x?socket=/s'), 'nbd');
  t.is((await chooseSource(at.image, 'image')).driver.kind, 'image');
  writeParts(at.at('qcow1'), MIB, [{ at: 0, bytes: Uint8Array.from([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1]) }]);
  t.is(await kind(at.at('qcow1')), 'image');
});

test.serial('an image that cannot take a bitmap is backed up, and that is said', async (t) => {
  const at = await scene(t);
  const image = at.at('v2.qcow2');
  makeQcow2(image, DISK_BYTES, '-o', 'compat=0.10');
  qemuIo(image, 'write -P 3 1M 5M');
  const result = await at.sync1(image);
  t.regex(result.warnings.join(), /no bitmap could be added/);
  await verify(t, at, result, { image, bitmaps: 0 });
});

test.serial('without the tools the command says which package they are in', async (t) => {
  const at = await scene(t);
  const result = await at.cliIn({ PATH: '/nonexistent' }, 'sync', `disk=${at.image}`);
  t.is(result.status, 1);
  t.regex(result.stderr, /qemu-utils/);
});
