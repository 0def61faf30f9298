/** The pool of worker threads, one a core, each with two bands under way: one being read while one is computed on. */
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Piscina } from 'piscina';
import type { VolumeKeys } from '../format/keys.ts';
import type { Padding } from '../format/padding.ts';
import type { CipherName } from '../format/primitives.ts';
import { type BandKeyMaterial, type BandTasks, fromWireError, type WireResult } from './tasks.ts';

const TASKS_PER_WORKER = 2;
/** By then a mount is up. */
const BRING_UP_MS = 1000;
/** How long a pool that is closed waits for threads that still load. */
const LOADING_WAIT_MS = 10_000;
const LOADING_POLL_MS = 5;

/** A quarter of the time of a thread that is not nice, where there is not enough for both. */
const AHEAD_NICENESS = 5;

export interface BandPoolOptions {
  /**
   * Whether this process answers readers: what workers decode ahead of them then makes way for the answers. (With too few cores for
   * both, workers otherwise get far ahead, and readers wait for the thread that copies.) Nor do threads load while something is
   * brought up, which they would slow down: they do with the first task, or a little later.
   */
  readonly servesReaders?: boolean;
}

/** What a thread is started with. */
export interface WorkerStart {
  readonly loaded: Int32Array;
  readonly niceness: number;
}

export class BandPool {
  /** How many tasks keep every worker busy; hand in no more at once. */
  readonly capacity: number;
  readonly #threads: number;
  readonly #niceness: number;
  #piscina: Promise<Piscina> | undefined;
  #isClosed = false;
  readonly #running = new Set<Promise<unknown>>();
  /** Counts the threads that have loaded. */
  readonly #loaded: Int32Array = new Int32Array(new SharedArrayBuffer(4));

  /** Threads are started at once, so that they are up when the first task comes, or as `options` say. */
  constructor(threads: number = availableParallelism(), { servesReaders = false }: BandPoolOptions = {}) {
    this.capacity = threads * TASKS_PER_WORKER;
    this.#threads = threads;
    this.#niceness = servesReaders ? AHEAD_NICENESS : 0;
    if (servesReaders) setTimeout(() => this.#startUnlessClosed(), BRING_UP_MS).unref();
    else void this.#start();
  }

  #startUnlessClosed(): void {
    if (!this.#isClosed) void this.#start();
  }

  #start(): Promise<Piscina> {
    if (this.#piscina !== undefined) return this.#piscina;
    if (this.#isClosed) return Promise.reject(new Error('the pool is closed'));
    this.#piscina = startThreads(this.#threads, { loaded: this.#loaded, niceness: this.#niceness });
    this.#piscina.catch(() => undefined); // run() and close() tell
    return this.#piscina;
  }

  /** Runs one task. @throws TimebandError as the task throws it */
  async run<Name extends keyof BandTasks>(name: Name, task: BandTasks[Name]['task']): Promise<BandTasks[Name]['result']> {
    const running: Promise<WireResult<BandTasks[Name]['result']>> = this.#start().then((piscina) => piscina.run(task, { name }));
    this.#running.add(running);
    try {
      const answer = await running;
      if ('value' in answer) return answer.value;
      throw fromWireError(answer.error);
    } finally {
      this.#running.delete(running);
    }
  }

  /** Stops the threads when they have done what they were asked for: an answer that comes later would be an error of nobody's. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const piscina = await this.#piscina;
    if (piscina === undefined) return; // it never had anything to do
    await Promise.allSettled(this.#running);
    await this.#waitUntilLoaded();
    await piscina.destroy();
  }

  /** A thread that is stopped while it loads its modules can take the whole process with it (a fatal error in Node 20). */
  async #waitUntilLoaded(): Promise<void> {
    for (let waited = 0; Atomics.load(this.#loaded, 0) < this.#threads && waited < LOADING_WAIT_MS; waited += LOADING_POLL_MS) {
      await delay(LOADING_POLL_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Piscina takes 30 ms to load: meanwhile the key may be derived already. */
async function startThreads(threads: number, workerData: WorkerStart): Promise<Piscina> {
  const { Piscina } = await import('piscina');
  return new Piscina({
    filename: new URL('./band-worker.js', import.meta.url).href,
    minThreads: threads,
    maxThreads: threads,
    concurrentTasksPerWorker: TASKS_PER_WORKER,
    workerData,
  });
}

/** A volume's band keys for workers. Those of an open repository lie in memory that all threads share, and are wiped with it. */
export function shareBandKeys(volume: {
  readonly cipher: CipherName;
  readonly bandBytes: number;
  readonly padding: Padding | undefined;
  readonly keys: VolumeKeys;
}): BandKeyMaterial {
  const { bandKey, fingerprintKey, domainId } = volume.keys;
  return { cipher: volume.cipher, bandBytes: volume.bandBytes, padding: volume.padding, bandKey, fingerprintKey, domainId };
}
