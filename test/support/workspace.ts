/** A temporary folder for one test: whatever is mounted, attached or running under it is taken down when the test ends. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { parseMountinfo } from '../../fuse/mount-table.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
export const PASSPHRASE = 'correct horse battery staple';
const MAX_OUTPUT_BYTES = 268_435_456;
/** A command that takes longer hangs: it is killed, and its status is null. */
const HANGS_AFTER_MS = 90_000;

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Workspace {
  readonly root: string;
  readonly repo: string;
  /** The file that node runs as `timeband`. */
  readonly program: string;
  /** Environment of the commands: repository, passphrase and a state folder of the test's own. */
  readonly env: NodeJS.ProcessEnv;
  /** A path in the folder. */
  at(...names: string[]): string;
  /** Makes a folder in it. */
  folder(...names: string[]): string;
  /** Runs `timeband` as a child process. */
  cli(...args: string[]): Promise<CliResult>;
  /** Runs it in a changed environment; undefined takes a variable away. */
  cliIn(change: NodeJS.ProcessEnv, ...args: string[]): Promise<CliResult>;
  /** Runs a script of /bin/sh in the folder, in which `timeband` is the program. */
  shell(script: string): Promise<CliResult>;
  /** Runs it and fails the test unless it exits with 0; gives stdout. */
  ok(...args: string[]): Promise<string>;
  /** Runs it with --json and parses the document, whatever the status. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into documents of many shapes
  json(...args: string[]): Promise<any>;
  /** Starts it and does not wait; killed when the test ends. */
  start(...args: string[]): ChildProcess;
}

/** Makes the folder and registers its clean-up with the test. */
export function workspace(t: ExecutionContext): Workspace {
  const root = mkdtempSync(path.join(tmpdir(), 'timeband-test-'));
  const repo = path.join(root, 'repo');
  const env = { ...process.env, TIMEBAND_REPO: repo, TIMEBAND_PASSPHRASE: PASSPHRASE, TIMEBAND_STATE_DIR: path.join(root, 'state') };
  const children: ChildProcess[] = [];
  t.teardown(() => {
    for (const child of children) child.kill('SIGKILL');
    takeDown(root);
    rmSync(root, { recursive: true, force: true });
  });
  const run = (program: string, args: readonly string[], change: NodeJS.ProcessEnv = {}): Promise<CliResult> =>
    new Promise((resolve) => {
      const options = { env: { ...env, ...change }, cwd: root, maxBuffer: MAX_OUTPUT_BYTES, timeout: HANGS_AFTER_MS, killSignal: 'SIGKILL' } as const;
      const child = execFile(program, args, options, (_error, stdout, stderr) => resolve({ status: child.exitCode, stdout, stderr }));
    });
  const cli = (...args: string[]): Promise<CliResult> => run(process.execPath, [MAIN, ...args]);
  const ok = async (...args: string[]): Promise<string> => {
    const result = await cli(...args);
    if (result.status !== 0) throw new Error(`timeband ${args.join(' ')} exited with ${result.status}: ${result.stderr}${result.stdout}`);
    return result.stdout;
  };
  return {
    root,
    repo,
    program: MAIN,
    env,
    at: (...names) => path.join(root, ...names),
    folder(...names) {
      const folder = path.join(root, ...names);
      mkdirSync(folder, { recursive: true });
      return folder;
    },
    cli,
    cliIn: (change, ...args) => run(process.execPath, [MAIN, ...args], change),
    shell: (script) => run('/bin/sh', ['-c', `timeband() { "${process.execPath}" "${MAIN}" "$@"; }\n${script}`]),
    ok,
    async json(...args) {
      const { stdout, stderr, status } = await cli(...args, '--json');
      try {
        return JSON.parse(stdout);
      } catch {
        throw new Error(`timeband ${args.join(' ')} (status ${status}) printed no JSON: ${stdout}${stderr}`);
      }
    },
    start(...args) {
      const child = spawn(process.execPath, [MAIN, ...args], { env, cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
      children.push(child);
      return child;
    },
  };
}

/** Runs a program of the system; throws with its output if it fails. */
export function sh(tool: string, ...args: string[]): string {
  return execFileSync(tool, args, { encoding: 'utf8', maxBuffer: MAX_OUTPUT_BYTES, stdio: ['ignore', 'pipe', 'pipe'] });
}

function attempt(tool: string, ...args: string[]): void {
  try {
    sh(tool, ...args);
  } catch {
    // clean-up goes on with the next thing
  }
}

/** Unmounts and detaches everything under `root`, innermost first. */
function takeDown(root: string): void {
  const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))
    .map(({ mountPoint }) => mountPoint)
    .filter((mountPoint) => mountPoint.startsWith(`${root}/`));
  for (const mountPoint of mounts.reverse()) attempt('umount', '-l', '--', mountPoint);
  const loops: { loopdevices: { name: string; 'back-file': string | null }[] } = JSON.parse(
    sh('losetup', '--list', '--json') || '{"loopdevices":[]}',
  );
  for (const loop of loops.loopdevices) if (loop['back-file']?.startsWith(`${root}/`) === true) attempt('losetup', '-d', loop.name);
}
