/** Starting a process that serves something in the background, and waiting until it is up or has failed. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { FILE_MODE } from '../../bands/store/files.ts';
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

export interface StartOptions {
  /** A module that calls `serveInBackground`. */
  readonly program: URL;
  /** What is served, for messages: a mount point, a socket. */
  readonly path: string;
  readonly logFile: string;
  /** Called with the process before it is told what to serve, to note it. */
  readonly onStarted: (server: ProcessIdentity) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Wipes a key in `message`, which is what the program is told to serve.
 * @throws TimebandError as the server found it, MOUNT_FAILED with what it logged, or INTERRUPTED; the process has then ended
 */
export async function startServer(message: object, options: StartOptions): Promise<void> {
  const { logFile, onStarted, signal } = options;
  throwIfInterrupted(signal);
  const child = await forkServer(fileURLToPath(options.program), logFile);
  const exit = once(child, 'exit').catch(() => undefined);
  const giveUp = (): void => hangUp(child);
  signal?.addEventListener('abort', giveUp);
  try {
    await onStarted(processIdentity(child.pid ?? 0));
    const answer = await ask(child, message);
    if (answer !== undefined && 'error' in answer) throw fromWireError(answer.error);
    if (answer === undefined || !(await tell(child, WANTED))) {
      throwIfInterrupted(signal);
      throw await diedError(options);
    }
    child.unref();
  } catch (error) {
    hangUp(child);
    const timer = setTimeout(() => child.kill('SIGKILL'), EXIT_WAIT_MS);
    await exit;
    clearTimeout(timer);
    throw error;
  } finally {
    if (hasKey(message)) wipeGrant(message.key);
    signal?.removeEventListener('abort', giveUp);
  }
}

/** @throws TimebandError INTERRUPTED */
export function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new TimebandError('interrupted.', { code: 'INTERRUPTED' });
}

async function forkServer(program: string, logFile: string): Promise<ChildProcess> {
  await using log = await open(logFile, 'a', FILE_MODE);
  const child = fork(program, [], {
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

/** Its answer; undefined if it ended without. */
function ask(child: ChildProcess, message: object): Promise<ServeAnswer | undefined> {
  return new Promise((resolve) => {
    child.once('message', (value: ServeAnswer) => resolve(value));
    child.once('exit', () => resolve(undefined));
    void tell(child, message).then((isTold) => {
      if (!isTold) hangUp(child);
    });
  });
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

async function diedError({ logFile, path }: StartOptions): Promise<TimebandError> {
  const text = (await readFile(logFile, 'utf8')).trim();
  return new TimebandError(`the process that was to serve ${path} ended at once${text === '' ? '' : `: ${text}`}`, {
    code: 'MOUNT_FAILED',
    path,
  });
}
