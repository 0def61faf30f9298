/** `timeband` as a child process, run to its end or killed at a moment of the caller's choice. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
/** A command that takes longer hangs. */
const HANGS_AFTER_MS = 120_000;

export interface Ended {
  readonly args: readonly string[];
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
}

export interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** What a process is started with. */
export interface Machine {
  readonly env: NodeJS.ProcessEnv;
  /** A program that runs the one in its arguments, and its own arguments; none unless given. */
  readonly wrapper?: readonly string[];
}

export function start({ env, wrapper = [] }: Machine, args: readonly string[]): Started {
  const [program = '', ...rest] = [...wrapper, process.execPath, MAIN, ...args];
  const startedAt = performance.now();
  const child = spawn(program, rest, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: HANGS_AFTER_MS, killSignal: 'SIGABRT' });
  const texts = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    texts.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    texts.stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve({ args, status, signal, ...texts, durationMs: performance.now() - startedAt }));
  });
  return { child, ended };
}

export function isRunning({ child }: Started): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** For messages: the command, how it ended, and what it said. */
export function describeEnd({ args, status, signal, stderr, stdout }: Ended): string {
  return `timeband ${args.join(' ')} ended with ${signal ?? `status ${status}`}: ${stderr.trim()} ${stdout.trim().slice(-500)}`;
}
