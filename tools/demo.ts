/** `npm run demo`: the main job on real data, end to end, with the commands that it runs. Leaves nothing mounted. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const IMAGE_BYTES = 536_870_912;

const work = mkdtempSync(path.join(tmpdir(), 'timeband-demo-'));
const at = (...names: string[]): string => path.join(work, ...names);
const env = { ...process.env, TIMEBAND_REPO: at('repository'), TIMEBAND_PASSPHRASE: 'demo passphrase', TIMEBAND_STATE_DIR: at('state') };
const script: string[] = [];

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function short(text: string): string {
  return text.replaceAll(`${work}/`, '');
}

/** Runs a program of the system, quietly. */
function sh(tool: string, ...args: string[]): string {
  return execFileSync(tool, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Runs a Timeband command, shows it and what it prints. */
function timeband(...args: string[]): string {
  const line = `timeband ${args.map((arg) => (/\s/.test(arg) ? `"${arg}"` : arg)).join(' ')}`;
  script.push(short(line));
  say(`\n  $ ${short(line)}`);
  const output = sh(process.execPath, MAIN, ...args);
  say(short(output.trimEnd()).replaceAll(/^/gm, '    '));
  return output;
}

function step(text: string): void {
  say(`\n== ${text}`);
}

/** Mounts the image read-write, as a virtual machine would have it, and changes it. */
function inside(change: (folder: string) => void): void {
  sh('mount', '-o', 'loop', at('private.img'), at('vm'));
  try {
    change(at('vm'));
  } finally {
    sh('umount', at('vm'));
  }
}

function expect(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(`the demo expected that ${what}`);
  say(`    ok: ${what}`);
}

function demo(): void {
  for (const folder of ['vm', 'past', 'restored']) mkdirSync(at(folder));
  step('A real disk image: 512 MiB, sparse, ext4, with a real tree and a diary in it');
  writeFileSync(at('private.img'), '');
  truncateSync(at('private.img'), IMAGE_BYTES);
  sh('mkfs.ext4', '-q', '-F', at('private.img'));
  inside((folder) => {
    const tree = ['node_modules', 'src'].map((name) => path.join(ROOT, name)).filter((name) => existsSync(name));
    for (const from of tree) cpSync(from, path.join(folder, path.basename(from)), { recursive: true, verbatimSymlinks: true });
    writeFileSync(path.join(folder, 'diary.txt'), 'Monday: everything is still here.\n');
  });
  step('A repository, and a first session');
  timeband('init');
  timeband('sync', `work/private=${at('private.img')}`, '--tag', 'monday');
  step('The machine goes on: files change, the diary is deleted; a session after each');
  inside((folder) => writeFileSync(path.join(folder, 'report.txt'), 'Tuesday: a report.\n'.repeat(50_000)));
  timeband('sync', 'work/private');
  inside((folder) => {
    rmSync(path.join(folder, 'diary.txt'));
    writeFileSync(path.join(folder, 'news.txt'), 'Wednesday: the diary is gone.\n');
  });
  timeband('sync', 'work/private');
  timeband('sessions', 'work/private');
  timeband('diff', 'work/private@monday', 'work/private@latest');
  step('The deleted diary, from the oldest session, opened as a file system');
  timeband('open', 'work/private@monday', at('past'));
  say(`\n  $ cat past/diary.txt\n    ${readFileSync(at('past', 'diary.txt'), 'utf8').trim()}`);
  expect(readdirSync(at('past')).includes('diary.txt'), 'the diary is in the oldest session');
  timeband('close', at('past'));
  step('The newest session restored to a new image, which is compared and loop-mounted');
  timeband('restore', 'work/private', at('restored.img'));
  sh('cmp', at('private.img'), at('restored.img'));
  expect(true, 'restored.img equals private.img byte for byte');
  expect(statSync(at('restored.img')).blocks * 512 < IMAGE_BYTES, 'restored.img is sparse');
  sh('mount', '-o', 'loop,ro', at('restored.img'), at('restored'));
  expect(readFileSync(at('restored', 'news.txt'), 'utf8').startsWith('Wednesday'), "Wednesday's news are in it");
  sh('umount', at('restored'));
  timeband('check', '--data');
  const used = Number(sh('du', '-s', '--block-size=1', at('repository')).split('\t')[0]);
  say(`\nThree whole sessions of a 512 MiB image take ${(used / 1048576).toFixed(0)} MiB in the repository.`);
  say(`Do it yourself (after "npm link"):\n\n  export TIMEBAND_REPO=/path/to/repository\n${script.map((line) => `  ${line}`).join('\n')}`);
}

function takeDown(): void {
  for (const folder of ['vm', 'past', 'restored']) {
    if (!readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${at(folder)} `)) continue;
    if (folder === 'past') sh(process.execPath, MAIN, 'close', at('past'));
    else sh('umount', at(folder));
  }
  rmSync(work, { recursive: true, force: true });
}

if (process.getuid?.() === 0) {
  try {
    demo();
  } finally {
    takeDown();
  }
  say('\nAll taken down; nothing is left mounted.');
} else {
  say('The demo makes and mounts disk images, which needs root: run it with sudo.');
  process.exitCode = 1;
}
