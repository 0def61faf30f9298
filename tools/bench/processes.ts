/**
 * The processes of a run, wherever they went: each is started with a mark in its environment, and its children inherit
 * it. So a mount's server that left for the background is found, measured, and ended in every case.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export const MARK_NAME = 'TIMEBAND_BENCH_RUN';
/** USER_HZ: the unit of /proc/PID/stat on every Linux that Node runs on. */
const TICK_MS = 10;
const POLL_MS = 20;
const PATIENCE_MS = 5000;
/** Written to clear_refs: begin a new peak of resident memory. */
const RESET_PEAK = '5';

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return undefined; // the process ended meanwhile, or is somebody else's
  }
}

/** The running processes that carry the mark. */
export function markedProcesses(mark: string): number[] {
  const wanted = `${MARK_NAME}=${mark}`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && readIfThere(`/proc/${name}/environ`)?.split('\0').includes(wanted) === true)
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

/** Fields 14-17 of /proc/PID/stat: user and system time, its own and that of children it waited for. */
function statTimes(pid: number | 'self'): readonly [own: number, children: number] {
  const text = readIfThere(`/proc/${pid}/stat`) ?? '';
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15);
  return [(user + system) * TICK_MS, (childUser + childSystem) * TICK_MS];
}

/** CPU time of this process's children that ended, in ms. */
export function endedChildrenCpuMs(): number {
  return statTimes('self')[1];
}

/** CPU time so far of all that carry the mark, with their ended children. */
export function markedCpuMs(mark: string): number {
  return markedProcesses(mark).reduce((sum, pid) => sum + statTimes(pid)[0] + statTimes(pid)[1], 0);
}

/** The largest peak of resident memory among processes, in bytes. */
export function peakRssOf(pids: readonly number[]): number | undefined {
  const peaks = pids.map((pid) => Number(/^VmHWM:\s+(\d+) kB/m.exec(readIfThere(`/proc/${pid}/status`) ?? '')?.[1] ?? 0));
  const peak = Math.max(0, ...peaks) * 1024;
  return peak === 0 ? undefined : peak;
}

/** Lets the peaks count from now on. */
export function resetPeakRss(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      writeFileSync(`/proc/${pid}/clear_refs`, RESET_PEAK);
    } catch {
      // then the peak is that of the whole life of the process
    }
  }
}

function signalAll(mark: string, signal: NodeJS.Signals): void {
  for (const pid of markedProcesses(mark)) {
    try {
      process.kill(pid, signal);
    } catch {
      // it ended meanwhile
    }
  }
}

/** Waits until no process carries the mark. @returns whether that came true in time */
export async function waitForEnd(mark: string, patienceMs: number = PATIENCE_MS): Promise<boolean> {
  const deadline = performance.now() + patienceMs;
  while (markedProcesses(mark).length > 0) {
    if (performance.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Ends all that carry the mark, with force where asking does not help. */
export async function endMarked(mark: string): Promise<void> {
  signalAll(mark, 'SIGTERM');
  if (await waitForEnd(mark)) return;
  signalAll(mark, 'SIGKILL');
  await waitForEnd(mark);
}
