/** Child processes that are stopped at chosen moments. */
import type { ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Collects what a process prints and waits for its end. */
export function ended(child: ChildProcess): Promise<Ended> {
  const texts = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    texts.stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    texts.stderr += text;
  });
  return new Promise((resolve) => {
    child.once('close', (status, signal) => resolve({ status, signal, ...texts }));
  });
}

/** Sends `signal` once `isTime` holds; the process may end before that. */
export async function signalWhen(child: ChildProcess, signal: NodeJS.Signals, isTime: () => boolean): Promise<Ended> {
  const end = ended(child);
  while (child.exitCode === null && child.signalCode === null && !isTime()) await sleep(1);
  child.kill(signal);
  return await end;
}

/** Files of unfinished sessions in a repository: paths below volumes/ID/incoming, with their folders. */
export function incomingFiles(repo: string): string[] {
  const volumes = path.join(repo, 'volumes');
  const list = (folder: string): string[] => {
    try {
      return readdirSync(folder, { recursive: true, encoding: 'utf8' });
    } catch {
      return []; // it went away while it was read
    }
  };
  return list(volumes).filter((name) => /^[0-9a-f]{32}\/incoming\/./.test(name));
}

/** Whether a process is there, ended ones that nobody waited for included. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
