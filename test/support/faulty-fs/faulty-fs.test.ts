/** The faulty file system itself: what it keeps through a power cut, and what fails when. */
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import { syncDirectory, syncFileSystem, writeNewFile } from '../../../bands/store/files.ts';
import { isSame } from '../bytes.ts';
import { workspace } from '../workspace.ts';
import type { FaultName } from './fault-plan.ts';
import { FaultyFs, makeSyncProgram } from './faulty-fs.ts';

interface Mounted {
  readonly fs: FaultyFs;
  at(...names: string[]): string;
  cut(name?: FaultName, seed?: number): Promise<void>;
}

async function mounted(t: ExecutionContext): Promise<Mounted> {
  const ws = workspace(t);
  const fs = await FaultyFs.up(ws.at('mnt'));
  t.teardown(() => fs.stop());
  return {
    fs,
    at: (...names) => ws.at('mnt', ...names),
    async cut(name = 'a power cut', seed = 0) {
      await fs.arm({ name, at: 1, under: ['/'], seed });
      await fs.disarm();
    },
  };
}

const BYTES = new Uint8Array(300_000).map((_, i) => i % 251);

test.serial('a power cut leaves the bytes and names that were fsynced, and nothing else', async (t) => {
  const { at, cut } = await mounted(t);
  await writeNewFile(at('kept'), BYTES);
  await syncDirectory(at());
  await writeNewFile(at('nameless'), BYTES);
  mkdirSync(at('folder'));
  await syncDirectory(at());
  writeFileSync(at('folder', 'unsynced'), BYTES);
  writeFileSync(at('empty'), BYTES);
  await using handle = await open(at('kept'), 'r+');
  await handle.write(new Uint8Array(10), 0, 10, 0);
  await handle.truncate(20);
  await cut();
  t.deepEqual(readdirSync(at()).sort(), ['folder', 'kept', 'nameless'], 'what was made after the last fsync of the folder is gone');
  t.true(isSame(readFileSync(at('kept')), BYTES));
  t.true(isSame(readFileSync(at('nameless')), BYTES));
  t.deepEqual(readdirSync(at('folder')), []);
});

test.serial('a file whose name is durable and whose bytes are not is empty', async (t) => {
  const { at, cut } = await mounted(t);
  writeFileSync(at('file'), BYTES);
  await syncDirectory(at());
  await cut();
  t.is(statSync(at('file')).size, 0);
});

test.serial('a rename between folders is durable with either of them, and a hardlink shares its bytes through it all', async (t) => {
  const { at, cut } = await mounted(t);
  for (const name of ['a', 'b']) mkdirSync(at(name));
  await writeNewFile(at('a', 'one'), BYTES);
  linkSync(at('a', 'one'), at('a', 'two'));
  for (const name of ['a', '']) await syncDirectory(at(name));
  t.is(statSync(at('a', 'one')).ino, statSync(at('a', 'two')).ino);
  renameSync(at('a', 'one'), at('b', 'one'));
  renameSync(at('a', 'two'), at('b', 'two'));
  renameSync(at('b', 'two'), at('a', 'three'));
  await syncDirectory(at('b'));
  await cut();
  t.deepEqual([readdirSync(at('a')), readdirSync(at('b'))], [['three'], ['one']]);
  t.is(statSync(at('b', 'one')).nlink, 2);
  rmSync(at('b', 'one'));
  t.true(isSame(readFileSync(at('a', 'three')), BYTES));
});

test.serial('sync -f makes all of it durable', async (t) => {
  const { at, cut, fs } = await mounted(t);
  const before = process.env['PATH'];
  process.env['PATH'] = `${makeSyncProgram(`${fs.mountPoint}.bin`, fs.mountPoint)}:${before ?? ''}`;
  t.teardown(() => {
    process.env['PATH'] = before;
  });
  mkdirSync(at('folder'));
  writeFileSync(at('folder', 'file'), BYTES);
  await syncFileSystem(at('folder'));
  await cut();
  t.true(isSame(readFileSync(at('folder', 'file')), BYTES));
  await fs.arm({ name: 'one EIO', at: 1, under: ['/'], seed: 0 });
  await t.throwsAsync(syncFileSystem(at('folder')), { code: 'IO_ERROR' });
  t.like(await fs.disarm(), { count: 1, first: 'sync /folder/.syncfs' });
});

test.serial('of what was not fsynced, a part may survive, in the order of each name', async (t) => {
  const { at, cut, fs } = await mounted(t);
  await fs.save('empty');
  const seen = new Set<string>();
  for (let seed = 0; seed < 40; seed++) {
    await fs.reset('empty');
    writeFileSync(at('a'), 'x');
    renameSync(at('a'), at('b'));
    renameSync(at('b'), at('c'));
    mkdirSync(at('d'));
    await cut('a power cut that some writes survive', seed);
    const names = readdirSync(at()).sort().join('');
    t.regex(names, /^[abc]?d?$/, 'a rename is never seen half');
    seen.add(names);
  }
  t.true(seen.size >= 6, `${seen.size} outcomes`);
});

test.serial('the operation that was asked for fails, with the error that was asked for, once or from then on', async (t) => {
  const { at, fs } = await mounted(t);
  writeFileSync(at('file'), BYTES);
  const write = (): void => writeFileSync(at('file'), 'new');
  await fs.arm({ name: 'one ENOSPC', at: 2, under: ['/'], seed: 0 });
  t.throws(write, { code: 'ENOSPC' }, 'the first is the truncation, the second the write');
  t.notThrows(write);
  t.like(await fs.disarm(), { count: 1, first: 'write /file', seen: { truncate: 2, write: 2 } });
  await fs.arm({ name: 'EROFS from then on', at: 2, under: ['/'], seed: 0 });
  for (let i = 0; i < 3; i++) t.throws(write, { code: 'EROFS' });
  t.is((await fs.disarm()).count, 3);
  await fs.arm({ name: 'one EMFILE', at: 1, under: ['/'], seed: 0 });
  t.throws(() => readFileSync(at('file')), { code: 'EMFILE' });
  await fs.disarm();
  await fs.arm({ name: 'one EIO', at: 1, under: ['/elsewhere'], seed: 0 });
  t.notThrows(write);
  t.is((await fs.disarm()).count, 0);
});

test.serial('a short write is told to the writer', async (t) => {
  const { at, fs } = await mounted(t);
  await using handle = await open(at('file'), 'w');
  await fs.arm({ name: 'a short write', at: 1, under: ['/'], seed: 0 });
  t.is((await handle.write(BYTES.subarray(0, 1000), 0, 1000, 0)).bytesWritten, 500);
  await fs.disarm();
  t.is(statSync(at('file')).size, 500);
});

test.serial('an fsync that failed has lost what it was asked for, whatever a later one says', async (t) => {
  const { at, fs, cut } = await mounted(t);
  await writeNewFile(at('file'), new Uint8Array(3));
  await syncDirectory(at());
  await using handle = await open(at('file'), 'r+');
  await handle.write(Uint8Array.of(1, 1, 1), 0, 3, 0);
  await fs.arm({ name: 'one EIO', at: 1, under: ['/'], seed: 0 });
  await t.throwsAsync(handle.sync(), { code: 'EIO' });
  await fs.disarm();
  await handle.sync();
  await cut();
  t.deepEqual([...readFileSync(at('file'))], [0, 0, 0]);
});

test.serial('after the cut nothing works until the power is back', async (t) => {
  const { at, fs } = await mounted(t);
  await writeNewFile(at('file'), BYTES);
  await syncDirectory(at());
  await fs.arm({ name: 'a power cut', at: 1, under: ['/'], seed: 0 });
  t.throws(() => writeFileSync(at('new'), ''), { code: 'EIO' });
  t.throws(() => readdirSync(at()), { code: 'EIO' });
  t.throws(() => execFileSync('cat', [at('file')], { stdio: 'ignore' }));
  await fs.disarm();
  t.deepEqual(readdirSync(at()), ['file']);
  t.is(String(execFileSync('wc', ['-c', at('file')])).split(' ')[0], '300000');
});
