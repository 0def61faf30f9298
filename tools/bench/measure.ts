/** Running commands and measuring them: wall time, CPU time and peak memory, with all their children. */
import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { freemem } from 'node:os';
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { endedChildrenCpuMs, peakRssOf } from './processes.ts';
import type { Workspace } from './workspace.ts';

const TIME = '/usr/bin/time';
const SAMPLE_MS = 20;
const KEPT_STDERR = 2000;
const TOUCHED_BYTES = 6 * 2 ** 30;

export interface Command {
  readonly argv: readonly string[];
  readonly cwd?: string;
  /** Set beside the run's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Usage {
  readonly wallMs: number;
  /** User and system time. */
  readonly cpuMs: number;
  /** Of the largest process. */
  readonly peakRssBytes: number | undefined;
}

export interface Finished {
  readonly stdout: string;
  readonly usage: Usage;
}

/** The sum of times and the maximum of peaks. */
export function addUsage(...all: readonly Usage[]): Usage {
  const peaks = all.flatMap(({ peakRssBytes }) => peakRssBytes ?? []);
  const sum = (of: (usage: Usage) => number): number => all.reduce((total, usage) => total + of(usage), 0);
  return { wallMs: sum((one) => one.wallMs), cpuMs: sum((one) => one.cpuMs), peakRssBytes: peaks.length === 0 ? undefined : Math.max(...peaks) };
}

/** The run with the median wall time. */
export function medianUsage(runs: readonly Usage[]): Usage {
  const median = runs.toSorted((a, b) => a.wallMs - b.wallMs)[Math.floor((runs.length - 1) / 2)];
  if (median === undefined) throw new RangeError('runs: none');
  return median;
}

/** The load average of the last minute: a neighbour's work makes wall times longer. */
export function loadAverage(): number {
  return Number(readFileSync('/proc/loadavg', 'latin1').split(' ')[0]);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export class Runner {
  /** Whether the kernel's caches can be dropped before a step. */
  readonly isCold: boolean = process.getuid?.() === 0;
  readonly #workspace: Workspace;
  readonly #signal: AbortSignal;
  readonly #hasTime: boolean = isExecutable(TIME);

  constructor(workspace: Workspace, signal: AbortSignal) {
    this.#workspace = workspace;
    this.#signal = signal;
  }

  /**
   * Writes out what is dirty, drops the caches if this user may, and touches the memory that got free: in a virtual machine
   * that gives free memory back to its host, the tool measured first would pay for getting it again (a sequential read
   * took up to 1.4 times as long). @returns the load average before that
   */
  async makeCold(): Promise<number> {
    const load = loadAverage();
    await this.run({ argv: ['sync'] });
    if (this.isCold) {
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      const bytes = Math.min(TOUCHED_BYTES, Math.floor(freemem() / 2));
      await this.run({ argv: ['dd', 'if=/dev/zero', 'of=/dev/null', `bs=${bytes}`, 'count=1', 'iflag=fullblock', 'status=none'] });
    }
    return load;
  }

  /** Runs one command to its end. @throws TimebandError TOOL_MISSING, TOOL_FAILED, INTERRUPTED */
  async run(command: Command): Promise<Finished> {
    this.#signal.throwIfAborted();
    return this.#hasTime ? await this.#runTimed(command) : await this.#runWatched(command);
  }

  /** Runs commands one after the other and adds up what they took. */
  async runAll(commands: readonly Command[]): Promise<Usage> {
    const usages: Usage[] = [];
    for (const command of commands) usages.push((await this.run(command)).usage);
    return addUsage(...usages);
  }

  /** With time(1), which asks the kernel for the sum over the process and its children. */
  async #runTimed(command: Command): Promise<Finished> {
    const file = this.#workspace.path('time');
    const { stdout, wallMs } = await this.#spawn({ ...command, argv: [TIME, '-q', '-f', '%U %S %M', '-o', file, ...command.argv] }, command);
    const [user = 0, system = 0, peakKib = 0] = (await readFile(file, 'latin1')).trim().split(' ').map(Number);
    return { stdout, usage: { wallMs, cpuMs: (user + system) * 1000, peakRssBytes: peakKib * 1024 } };
  }

  /** Without it: the CPU time of this process's ended children, and the peak of the process as it was last seen. */
  async #runWatched(command: Command): Promise<Finished> {
    const before = endedChildrenCpuMs();
    let peakRssBytes: number | undefined;
    const watch = (pid: number): NodeJS.Timeout =>
      setInterval(() => {
        peakRssBytes = peakRssOf([pid]) ?? peakRssBytes;
      }, SAMPLE_MS);
    const { stdout, wallMs } = await this.#spawn(command, command, watch);
    return { stdout, usage: { wallMs, cpuMs: endedChildrenCpuMs() - before, peakRssBytes } };
  }

  #spawn(run: Command, asked: Command, watch?: (pid: number) => NodeJS.Timeout): Promise<{ stdout: string; wallMs: number }> {
    const [tool = '', ...args] = run.argv;
    return new Promise((resolve, reject) => {
      const startedAt = performance.now();
      const child = spawn(tool, args, {
        cwd: run.cwd ?? this.#workspace.run,
        env: { ...this.#workspace.environment, ...run.env },
        stdio: ['ignore', 'pipe', 'pipe'],
        signal: this.#signal,
      });
      const timer = child.pid === undefined ? undefined : watch?.(child.pid);
      let wallMs = 0;
      const stdout: Buffer[] = [];
      let stderr = '';
      child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => {
        stderr = (stderr + chunk.toString()).slice(-KEPT_STDERR);
      });
      child.once('exit', () => {
        wallMs = performance.now() - startedAt;
        clearInterval(timer);
      });
      child.once('error', (cause) => reject(this.#failure(asked, messageOf(cause), cause)));
      child.once('close', (code, signal) => {
        if (code === 0) resolve({ stdout: Buffer.concat(stdout).toString(), wallMs });
        else reject(this.#failure(asked, `${signal ?? `status ${code}`}: ${stderr.trim()}`));
      });
    });
  }

  #failure({ argv }: Command, what: string, cause?: unknown): unknown {
    if (this.#signal.aborted) return this.#signal.reason;
    return new TimebandError(`${argv.join(' ')} failed: ${what}`, { code: 'TOOL_FAILED', cause });
  }
}
