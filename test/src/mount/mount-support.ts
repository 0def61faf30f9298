/** Mounts in tests: repositories to mount, what is mounted, attached and running for a test, and waiting for it to change. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext, type ImplementationFn } from 'ava';
import type { BandPool } from '../../../bands/workers/band-pool.ts';
import { parseMountinfo } from '../../../fuse/mount-table.ts';
import { fill } from '../../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../../support/library.ts';
import { type CliResult, sh, type Workspace } from '../../support/workspace.ts';

export const MAIN: string = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const hasFuse = existsSync('/dev/fuse');
/** Long enough for the slowest machine; a test that passes never waits for it. */
const PATIENCE_MS = 60_000;
const POLL_MS = 20;

/** A test that mounts; skipped where the kernel has no FUSE. */
export function mountTest(title: string, implementation: ImplementationFn<[]>): void {
  if (hasFuse && process.getuid?.() === 0) test.serial(title, implementation);
  else test.serial.skip(`${title} (${hasFuse ? 'only root can mount here' : '/dev/fuse is missing'})`, implementation);
}

/** A repository of cheap keys with all that it mounts, attaches and starts taken down after the test. */
export async function mountLab(t: ExecutionContext, pool: BandPool): Promise<Lab> {
  const space = await lab(t, pool);
  t.teardown(() => {
    for (const pid of processesOf(space)) kill(pid, 'SIGKILL');
    for (const mountPoint of mountsUnder(space.root).reverse()) spawnSync('umount', ['-l', '--', mountPoint]);
  });
  return space;
}

/** Mounts the repository in the background at a new folder. */
export async function mounted(space: Workspace, name = 'mnt', ...options: string[]): Promise<string> {
  const folder = space.folder(name);
  await space.ok('mount', folder, ...options);
  return folder;
}

/** Runs `timeband` under another program: a limit, another user, other variables. */
export function runUnder(space: Workspace, command: readonly string[], env: NodeJS.ProcessEnv = space.env): Promise<CliResult> {
  const [tool = '', ...args] = command;
  return new Promise((resolve) => {
    const child = execFile(tool, args, { env, cwd: space.root }, (_error, stdout, stderr) => resolve({ status: child.exitCode, stdout, stderr }));
  });
}

export function mountsUnder(root: string): string[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))
    .map((entry) => entry.mountPoint)
    .filter((mountPoint) => mountPoint.startsWith(`${root}/`));
}

/** Loop devices over files in `root`. */
export function loopsUnder(root: string): string[] {
  const { loopdevices }: { loopdevices: { name: string; 'back-file': string | null }[] } = JSON.parse(
    sh('losetup', '--list', '--json') || '{"loopdevices":[]}',
  );
  return loopdevices.filter((loop) => loop['back-file']?.startsWith(`${root}/`) === true).map((loop) => loop.name);
}

/** Processes that run with the state folder of this test: `timeband` and what it started. One that ended has no environment. */
export function processesOf(space: Workspace): number[] {
  const mark = `TIMEBAND_STATE_DIR=${space.env['TIMEBAND_STATE_DIR']}`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => readProc(pid, 'environ').split('\0').includes(mark));
}

/** The one process that serves a mount of this test. */
export function serverOf(space: Workspace): number {
  const [pid, ...others] = processesOf(space);
  if (pid === undefined || others.length > 0) throw new Error(`${others.length + (pid === undefined ? 0 : 1)} processes run, one expected`);
  return pid;
}

/** A file of /proc/PID; empty if the process is gone. */
export function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return ''; // it ended between the listing and the look
  }
}

export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'errno' in error && error.errno === -constants.errno.ESRCH)) throw error;
  }
}

/** Waits until `isSo`; the deadline is only there so that a failing test ends. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, patienceMs: number = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(POLL_MS);
  }
}

/** Asserts that nothing is mounted, attached or running any more. */
export async function nothingLeft(t: ExecutionContext, space: Workspace): Promise<void> {
  t.deepEqual(mountsUnder(space.root), []);
  await until('the loop devices are detached', () => loopsUnder(space.root).length === 0);
  await until('the processes have ended', () => processesOf(space).length === 0);
}

/** The errno name with which `work` fails, or undefined. */
export function errnoFrom(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** Noise, text that compresses, bands of zeros, zeros within a band, and an end within a chunk. */
export function mixedBytes(label: string, bands: number): Uint8Array {
  const bytes = new Uint8Array(bands * BAND_256K - 37 * 512);
  const noise = fill(label, 2 * BAND_256K);
  for (let i = 0; i < bands; i++) {
    const band = bytes.subarray(i * BAND_256K, (i + 1) * BAND_256K);
    if (i % 5 === 1) for (let at = 0; at < band.length; at++) band[at] = 97 + ((at >>> 7) % 26);
    else if (i % 5 === 2) band.set(noise.subarray(i * 512, i * 512 + 3000), 140_000);
    else if (i % 5 !== 3) band.set(noise.subarray((i * 1024) % BAND_256K).subarray(0, band.length));
  }
  return bytes;
}

/** Writes such an image and gives its bytes. */
export function writeMixed(file: string, label: string, bands: number): Uint8Array {
  const bytes = mixedBytes(label, bands);
  writeFileSync(file, bytes);
  return bytes;
}
