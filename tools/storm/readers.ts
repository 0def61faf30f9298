/**
 * Many processes that read a mount, mounted and unmounted again and again: all bytes are right, and neither threads, nor
 * descriptors, nor memory of the process that serves it grow with what is read.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MountRegistry } from '../../src/mount/registry.ts';
import { SeededRandom } from '../random.ts';
import { describeEnd, type Machine, start } from './program.ts';
import type { ReaderTask } from './reader.ts';
import { mountsBelow, violated } from './state.ts';

const READER = fileURLToPath(new URL('./reader.js', import.meta.url));
const MIB = 1_048_576;
const VOLUMES = ['a', 'b'];
const SAMPLE_MS = 500;
/** libfuse keeps ten threads, Node and its workers have a dozen; each reader past the page cache may be in a thread of its own. */
const OWN_THREADS = 40;
const SPARE_DESCRIPTORS = 16;
/** What the process takes besides the cache: the program, its workers, and what allocators hold back. */
const OWN_BYTES = 288 * MIB;

export interface ReadersOptions {
  /** An empty folder; removed if nothing went wrong. */
  readonly folder: string;
  readonly seed: string;
  readonly readers: number;
  /** Ends when that much was read, or that long. */
  readonly bytes: number;
  readonly maxDurationMs: number;
  /** Mounts, one after the other. */
  readonly cycles: number;
  readonly imageMiB: number;
  readonly tell: (line: string) => void;
}

/** What the server holds. */
export interface Holding {
  readonly threads: number;
  readonly descriptors: number;
  readonly rssBytes: number;
}

export interface CycleReport {
  readonly cacheMiB: number;
  readonly bytes: number;
  /** When all readers were at work, and at the end. */
  readonly first: Holding;
  readonly last: Holding;
  readonly most: Holding;
}

/** @throws Violation if a byte is wrong, a reader fails, or something grows */
export async function runReaders(options: ReadersOptions): Promise<CycleReport[]> {
  const { folder, seed, cycles } = options;
  const machine = machineIn(folder);
  const references = VOLUMES.map((name, i) => makeImage(path.join(folder, `${name}.img`), `${seed} ${i}`, options.imageMiB));
  await run(machine, 'init', '--quiet');
  for (const [i, name] of VOLUMES.entries()) await run(machine, 'sync', `${name}=${references[i]}`, '--quiet');
  const reports: CycleReport[] = [];
  const deadline = performance.now() + options.maxDurationMs;
  for (let cycle = 0; cycle < cycles; cycle++) {
    const left = { bytes: options.bytes / cycles, durationMs: (deadline - performance.now()) / (cycles - cycle) };
    const report = await runCycle(machine, { ...options, cycle, references, left });
    reports.push(report);
    options.tell(`${cycle + 1} of ${cycles}: ${describe(report)}`);
  }
  rmSync(folder, { recursive: true });
  return reports;
}

export function describe({ cacheMiB, bytes, first, last, most }: CycleReport): string {
  const show = ({ threads, descriptors, rssBytes }: Holding): string =>
    `${threads} threads, ${descriptors} descriptors, ${Math.round(rssBytes / MIB)} MiB`;
  return `${(bytes / 1e9).toFixed(1)} GB read, cache ${cacheMiB} MiB; at first ${show(first)}; in the end ${show(last)}; at most ${show(most)}`;
}

function machineIn(folder: string): Machine {
  const at = (name: string): string => path.join(folder, name);
  return { env: { ...process.env, TIMEBAND_REPO: at('repo'), TIMEBAND_STATE_DIR: at('state'), TIMEBAND_PASSPHRASE: 'readers' } };
}

async function run(machine: Machine, ...args: string[]): Promise<void> {
  const end = await start(machine, args).ended;
  if (end.status !== 0) violated(describeEnd(end));
}

/** Noise, text, zeros and all of them in one band. */
function makeImage(file: string, seed: string, sizeMiB: number): string {
  const random = new SeededRandom(seed);
  const fd = openSync(file, 'w');
  for (let mib = 0; mib < sizeMiB; mib++) {
    const bytes = mib % 4 === 0 ? random.bytes(MIB) : new Uint8Array(MIB);
    const text = mib % 4 === 3 ? new Uint8Array(0) : random.bytes(MIB / 8);
    for (const [i, letter] of text.entries()) bytes[i * 8] = 97 + (letter % 26);
    writeSync(fd, bytes);
  }
  closeSync(fd);
  return file;
}

interface Cycle extends ReadersOptions {
  readonly cycle: number;
  readonly references: readonly string[];
  readonly left: { readonly bytes: number; readonly durationMs: number };
}

async function runCycle(machine: Machine, options: Cycle): Promise<CycleReport> {
  const { folder, cycle, references, readers, seed } = options;
  const cacheMiB = cycle % 2 === 0 ? 256 : 32;
  const directory = path.join(folder, 'mnt');
  mkdirSync(directory, { recursive: true });
  await run(machine, 'mount', directory, '--cache-size', `${cacheMiB}M`, '--quiet');
  const pid = (await new MountRegistry(path.join(folder, 'state')).get(directory))?.server?.pid ?? 0;
  const images = VOLUMES.map((name, i) => ({ image: path.join(directory, name, 'latest', 'image'), reference: references[i] ?? '' }));
  const crowd = new Crowd(Array.from({ length: readers }, (_, i) => ({ images, seed: `${seed} ${cycle} ${i}`, isDirect: i % 4 !== 3 })));
  let report: CycleReport;
  try {
    report = { cacheMiB, ...(await watch(pid, crowd, options.left)) };
  } finally {
    await crowd.stop();
  }
  await run(machine, 'unmount', directory, '--quiet');
  if (mountsBelow(folder).length > 0) violated(`still mounted: ${mountsBelow(folder).join(', ')}`);
  check(report, readers);
  return { ...report, bytes: crowd.bytes };
}

async function watch(pid: number, crowd: Crowd, left: Cycle['left']): Promise<Omit<CycleReport, 'cacheMiB'>> {
  const deadline = performance.now() + left.durationMs;
  await crowd.atWork();
  const samples: Holding[] = [holdingOf(pid)];
  while (crowd.bytes < left.bytes && performance.now() < deadline) {
    await sleep(SAMPLE_MS);
    crowd.check();
    samples.push(holdingOf(pid));
  }
  const most = (of: (holding: Holding) => number): number => Math.max(...samples.map(of));
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined) throw new RangeError('samples: none');
  return {
    bytes: crowd.bytes,
    first,
    last,
    most: { threads: most((one) => one.threads), descriptors: most((one) => one.descriptors), rssBytes: most((one) => one.rssBytes) },
  };
}

function check({ cacheMiB, first, most }: CycleReport, readers: number): void {
  if (most.threads > OWN_THREADS + readers) violated(`${most.threads} threads for ${readers} readers`);
  if (most.descriptors > first.descriptors + SPARE_DESCRIPTORS) violated(`${most.descriptors} descriptors, ${first.descriptors} at first`);
  if (most.rssBytes > cacheMiB * MIB + OWN_BYTES) violated(`${Math.round(most.rssBytes / MIB)} MiB of memory with a cache of ${cacheMiB} MiB`);
}

function holdingOf(pid: number): Holding {
  const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return {
    threads: readdirSync(`/proc/${pid}/task`).length,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    rssBytes: Number(rss) * 1024,
  };
}

/** The processes that read. */
class Crowd {
  bytes = 0;
  readonly #children: readonly ChildProcess[];
  readonly #ended: readonly Promise<unknown>[];
  readonly #silent: Set<ChildProcess>;
  #failure: string | undefined;
  #isEnding = false;

  constructor(tasks: readonly ReaderTask[]) {
    this.#children = tasks.map((task) => this.#start(task));
    this.#ended = this.#children.map((child) => once(child, 'close'));
    this.#silent = new Set(this.#children);
  }

  #start(task: ReaderTask): ChildProcess {
    const child = spawn(process.execPath, [READER, JSON.stringify(task)], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      this.#silent.delete(child);
      for (const line of text.trim().split('\n')) this.bytes += Number(line);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#failure ??= text.slice(0, 2000);
    });
    child.once('exit', (status, signal) => {
      if (!this.#isEnding || status !== 0) this.#failure ??= `a reader ended with ${signal ?? status}`;
    });
    return child;
  }

  /** @throws Violation if a reader failed */
  check(): void {
    if (this.#failure !== undefined) violated(this.#failure);
  }

  /** Waits until each has read something. */
  async atWork(): Promise<void> {
    while (this.#silent.size > 0) {
      this.check();
      await sleep(SAMPLE_MS);
    }
  }

  async stop(): Promise<void> {
    this.#isEnding = true;
    for (const child of this.#children) child.stdin?.end();
    await Promise.all(this.#ended);
    this.check();
  }
}
