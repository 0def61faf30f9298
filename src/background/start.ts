/** Starting a process that serves something in the background, and waiting until it is up or has failed. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { createDirectories, FILE_MODE } from '../../bands/store/files.ts';
import { fromWireError } from '../../bands/workers/tasks.ts';
import { type ProcessIdentity, processIdentity } from '../host.ts';
import { wipeGrant } from '../keys/key-ring.ts';
import { hasKey, type ServeAnswer, WANTED } from './messages.ts';

/** A server lives for days and makes little garbage: V8 and glibc need not set tens of megabytes aside for it. */
const SMALL_NURSERY = '--max-semi-space-size=2';
const FEW_ARENAS = '2';
/**
 * For each request libfuse asks glibc for 128 KiB, which is the size at which glibc goes to the kernel, and gives back at once: these
 * keep such pieces (of a mebibyte and less; 16 MiB in all) at hand.
 */
const KEPT_AT_HAND = { MALLOC_MMAP_THRESHOLD_: '1048576', MALLOC_TRIM_THRESHOLD_: '16777216' };
/** How long a process that failed, or is not wanted any more, may take to end. */
const EXIT_WAIT_MS = 20_000;

export interface ServeOptions {
  /** What is served, for messages: a mount point, a socket. */
  readonly path: string;
  /** Where what goes wrong is written. */
  readonly logFile: string;
  /** Called with the process before it is told what to serve, to note it. */
  readonly onStarted: (server: ProcessIdentity) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

/** A process that has no task yet. To load takes it as long as to derive a key, so who needs both starts it first. */
export class BackgroundServer implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** Where it writes until it is told what to serve. */
  readonly #log: string;
  readonly #exit: Promise<unknown>;
  #isTold = false;

  private constructor(child: ChildProcess, log: string) {
    this.#child = child;
    this.#log = log;
    this.#exit = once(child, 'exit').catch(() => undefined);
  }

  /**
   * @param program a module that calls `serveInBackground`
   * @param folder where logs are
   * @throws TimebandError IO_ERROR
   */
  static async start(program: URL, folder: string): Promise<BackgroundServer> {
    await createDirectories(folder);
    const log = path.join(folder, `starting-${randomBytes(8).toString('hex')}.log`);
    try {
      return new BackgroundServer(await forkServer(fileURLToPath(program), log), log);
    } catch (error) {
      await rm(log, { force: true });
      throw error;
    }
  }

  /**
   * Tells it what to serve, and waits until it does. Once only. Wipes a key in `message`.
   * @throws TimebandError as the server found it, MOUNT_FAILED with what it logged, or INTERRUPTED; the process has then ended
   */
  async serve(message: object, options: ServeOptions): Promise<void> {
    const { logFile, onStarted, signal } = options;
    const child = this.#child;
    const giveUp = (): void => hangUp(child);
    try {
      throwIfInterrupted(signal);
      signal?.addEventListener('abort', giveUp);
      await rename(this.#log, logFile);
      this.#isTold = true;
      await onStarted(processIdentity(child.pid ?? 0));
      const answer = await this.#ask(message);
      if (answer !== undefined && 'error' in answer) throw fromWireError(answer.error);
      if (answer === undefined || !(await tell(child, WANTED))) {
        throwIfInterrupted(signal);
        throw await diedError(options);
      }
      child.unref();
    } catch (error) {
      await this.#end();
      throw error;
    } finally {
      if (hasKey(message)) wipeGrant(message.key);
      signal?.removeEventListener('abort', giveUp);
    }
  }

  /** Its answer; undefined if it ended without, or before it was asked. */
  #ask(message: object): Promise<ServeAnswer | undefined> {
    return new Promise((resolve) => {
      this.#child.once('message', (value: ServeAnswer) => resolve(value));
      void this.#exit.then(() => resolve(undefined));
      void tell(this.#child, message).then((isTold) => {
        if (!isTold) hangUp(this.#child);
      });
    });
  }

  async #end(): Promise<void> {
    hangUp(this.#child);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), EXIT_WAIT_MS);
    await this.#exit;
    clearTimeout(timer);
  }

  /** Ends it, unless it was told what to serve. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isTold) return;
    this.#child.kill('SIGKILL'); // it has nothing, and may still be loading
    await this.#exit;
    await rm(this.#log, { force: true });
  }
}

/** @throws TimebandError INTERRUPTED */
export function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new TimebandError('interrupted.', { code: 'INTERRUPTED' });
}

async function forkServer(program: string, logFile: string): Promise<ChildProcess> {
  await using log = await open(logFile, 'a', FILE_MODE);
  const child = fork(program, [logFile], {
    detached: true,
    serialization: 'advanced',
    stdio: ['ignore', log.fd, log.fd, 'ipc'],
    execArgv: [SMALL_NURSERY],
    env: { ...process.env, MALLOC_ARENA_MAX: FEW_ARENAS, ...KEPT_AT_HAND },
    cwd: '/',
  });
  try {
    await once(child, 'spawn');
    return child;
  } catch (error) {
    throw ioError(error, 'start a process with', program);
  }
}

/** @returns whether the process is there to be told */
function tell(child: ChildProcess, message: object | typeof WANTED): Promise<boolean> {
  return new Promise((resolve) => {
    if (child.connected) child.send(message, (error) => resolve(error === null));
    else resolve(false);
  });
}

/** A server that loses its channel before it is told that its service is wanted takes it down, and ends. */
function hangUp(child: ChildProcess): void {
  if (child.connected) child.disconnect();
}

async function diedError({ logFile, path: place }: ServeOptions): Promise<TimebandError> {
  const text = (await readFile(logFile, 'utf8')).trim();
  return new TimebandError(`the process that was to serve ${place} ended at once${text === '' ? '' : `: ${text}`}`, {
    code: 'MOUNT_FAILED',
    path: place,
  });
}
