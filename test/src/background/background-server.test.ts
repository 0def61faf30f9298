/** A server that is started before it is known what it will serve: when nobody wants it any more, nothing of it stays. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { BackgroundServer } from '../../../src/background/start.ts';
import { workspace } from '../../support/workspace.ts';
import { readProc, until } from '../mount/mount-support.ts';

const PROGRAM = new URL('../../../src/mount/server-main.js', import.meta.url);
const START = new URL('../../../src/background/start.js', import.meta.url);

/** The processes that have `text` among their arguments. */
function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .map(Number)
    .filter((pid) => readProc(pid, 'cmdline').includes(text));
}

test('one that is not needed has ended, and its log is gone', async (t) => {
  const folder = workspace(t).at('mounts');
  {
    await using _server = await BackgroundServer.start(PROGRAM, folder);
    t.is(processesWith(folder).length, 1);
    t.is(readdirSync(folder).length, 1);
  }
  t.deepEqual(processesWith(folder), []);
  t.deepEqual(readdirSync(folder), []);
});

test('one whose command is killed ends, and removes its log itself', async (t) => {
  const folder = workspace(t).at('mounts');
  const script = `const { BackgroundServer } = await import(process.argv[1]);
    await BackgroundServer.start(new URL(process.argv[2]), process.argv[3]);
    process.stdout.write('started'); setInterval(() => undefined, 1000);`;
  const command: ChildProcess = spawn(process.execPath, ['--input-type=module', '-e', script, START.href, PROGRAM.href, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (command.stdout === null) return t.fail();
  await once(command.stdout, 'data');
  t.is(readdirSync(folder).length, 1);
  command.kill('SIGKILL');
  await until('it has ended', () => processesWith(folder).length === 0);
  t.deepEqual(readdirSync(folder), []);
});

test('one that cannot bring up what it is told is an error with its reason, and ends', async (t) => {
  const space = workspace(t);
  const folder = space.at('mounts');
  await using server = await BackgroundServer.start(PROGRAM, folder);
  const noted: number[] = [];
  const serving = server.serve(
    { root: space.at('nowhere'), key: { masterKey: new Uint8Array(32) }, request: {} },
    { path: space.at('mnt'), logFile: space.at('log'), onStarted: async ({ pid }) => void noted.push(pid) },
  );
  await t.throwsAsync(serving, { code: 'REPOSITORY_NOT_FOUND' });
  t.deepEqual(noted.length, 1);
  t.deepEqual(processesWith(folder), []);
  t.deepEqual(readdirSync(folder), []);
});

test('one that ended before it was told anything is an error with what it said', async (t) => {
  const space = workspace(t);
  const program = space.at('broken.mjs');
  writeFileSync(program, 'process.stderr.write("it is broken\\n"); process.exit(1);');
  await using server = await BackgroundServer.start(pathToFileURL(program), space.at('mounts'));
  await until('it has ended', () => processesWith(program).length === 0);
  const serving = server.serve({}, { path: space.at('mnt'), logFile: space.at('log'), onStarted: () => Promise.resolve() });
  await t.throwsAsync(serving, { code: 'MOUNT_FAILED', message: /ended at once: it is broken/ });
});
