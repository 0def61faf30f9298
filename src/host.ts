/** Who and where this process is: for locks, for the source's description, for the state folder. */
import { readFileSync, readlinkSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import path from 'node:path';
import { errnoOf } from '../bands/errors.ts';

/** Stands for what this machine does not tell. */
const UNKNOWN = 'unknown';

/** Enough to tell, on the same machine, whether a process still runs. */
export interface ProcessIdentity {
  readonly host: string;
  readonly bootId: string;
  /** The PID namespace: a pid of another one says nothing here. */
  readonly pidNamespace: string;
  readonly pid: number;
  /** When the process started, in clock ticks since boot; tells a reused pid. */
  readonly startTicks: string;
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined; // not Linux, or /proc is not mounted: the caller says what then
  }
}

/** Whether a process is there, and when it started: field 22 of /proc/PID/stat, counted from behind the command's name. */
function lookAtProcess(pid: number): { readonly exists: boolean; readonly startTicks: string | undefined } {
  const stat = readText(`/proc/${pid}/stat`);
  if (stat === undefined) return { exists: canSignal(pid), startTicks: undefined }; // no /proc, or one that hides others' processes
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const hasEnded = fields[0] === 'Z' || fields[0] === 'X'; // only not yet reaped by its parent
  return { exists: !hasEnded, startTicks: fields[19] };
}

function canSignal(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

export function hostName(): string {
  const machine = readText('/etc/machine-id');
  return machine === undefined || machine === '' ? hostname() : `${hostname()}/${machine.slice(0, 8)}`;
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return UNKNOWN;
  }
}

/** Another one after each start of the machine; undefined where it does not tell. */
export function bootId(): string | undefined {
  return readText('/proc/sys/kernel/random/boot_id');
}

export function currentProcess(): ProcessIdentity {
  return processIdentity(process.pid);
}

/** Identifies a process of this machine and PID namespace, as a child of ours. */
export function processIdentity(pid: number): ProcessIdentity {
  return {
    host: hostName(),
    bootId: bootId() ?? UNKNOWN,
    pidNamespace: pidNamespace(),
    pid,
    startTicks: lookAtProcess(pid).startTicks ?? UNKNOWN,
  };
}

/** Whether a process runs: 'unknown' for one on another machine or in another container. */
export function stateOf(other: ProcessIdentity, self: ProcessIdentity = currentProcess()): 'running' | 'gone' | 'unknown' {
  if (other.host !== self.host) return 'unknown';
  if (other.bootId !== self.bootId) return other.bootId === UNKNOWN || self.bootId === UNKNOWN ? 'unknown' : 'gone';
  if (other.pidNamespace !== self.pidNamespace) return 'unknown';
  const { exists, startTicks } = lookAtProcess(other.pid);
  if (!exists) return 'gone';
  return startTicks === undefined || other.startTicks === UNKNOWN || startTicks === other.startTicks ? 'running' : 'gone';
}

/** TIMEBAND_STATE_DIR, else $XDG_STATE_HOME/timeband, else ~/.local/state/timeband. */
export function stateDirectory(env: Readonly<Record<string, string | undefined>>): string {
  const own = env['TIMEBAND_STATE_DIR'];
  if (own !== undefined && own !== '') return path.resolve(own);
  const xdg = env['XDG_STATE_HOME'];
  return path.join(xdg !== undefined && path.isAbsolute(xdg) ? xdg : path.join(homedir(), '.local', 'state'), 'timeband');
}
