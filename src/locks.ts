/**
 * Locks in the repository's locks/ folder, one small JSON file a holder, so that they work on any file system and show
 * who holds them. A taker announces itself, then looks whether anyone else is there: of two that come at once at least
 * one sees the other and steps back, so both never hold the lock. A lock whose process is gone is removed by whoever
 * comes next.
 */
import { randomBytes } from 'node:crypto';
import { link, rename } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ioError, TimebandError } from '../bands/errors.ts';
import { utf8 } from '../bands/format/bytes.ts';
import {
  createDirectory,
  listDirectory,
  readRegularFile,
  removeFile,
  requireRealDirectory,
  TEMPORARY_PREFIX,
  tryToRemove,
  writeNewFile,
} from '../bands/store/files.ts';
import { removeTree } from './deletion/trash.ts';
import { currentProcess, type ProcessIdentity, stateOf } from './host.ts';

/** Who holds a lock. */
export interface LockHolder extends ProcessIdentity {
  readonly command: string;
  readonly since: string;
}

export interface FoundLock {
  readonly file: string;
  /** Undefined if the file cannot be read: a lock that nobody can judge counts as held. */
  readonly holder: LockHolder | undefined;
}

/** Scope and a random part; nothing else in the folder is ours to look at or remove. */
const LOCK_NAME = /^[\w-]+\.[\w-]+\.json$/;
/** One that is being written, or whose taker was killed while it was. */
const UNFINISHED_NAME = new RegExp(`^\\${TEMPORARY_PREFIX}[0-9a-f]{16}$`);
const MAX_LOCK_BYTES = 4096;
const ATTEMPTS = 5;
const MAX_BACKOFF_MS = 60;
/** Between attempts of somebody who was told to wait. */
const WAITING_MS = 250;

export interface LockRequest {
  /** What is locked: a volume's id in hex, or a word; no dots. */
  readonly scope: string;
  /** The same for people: `volume "work/private"`. */
  readonly what: string;
  /** The command that asks, for the message of whoever is refused: a word, no names, as everybody can read it who has the repository. */
  readonly command: string;
  /** How often to try: more for a lock that is only ever held for moments. */
  readonly attempts?: number;
  /** How long to go on trying after that. */
  readonly waitMs?: number | undefined;
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined;
}

/** Locks that this process has released, but whose files it could not remove. Names are random, so none comes again. */
const leftBehind = new Set<string>();

export class Lock {
  readonly #file: string;

  private constructor(file: string) {
    this.#file = file;
  }

  /** Takes a lock of which there is one. @throws TimebandError LOCKED, INTERRUPTED */
  static async acquire(directory: string, request: LockRequest): Promise<Lock> {
    return await Lock.share(directory, request, request.scope);
  }

  /**
   * Takes a lock that others of the same scope may hold as well, unless somebody else holds one of the scope `against`.
   * @throws TimebandError LOCKED, INTERRUPTED
   */
  static async share(directory: string, request: LockRequest, against: string): Promise<Lock> {
    await requireRealDirectory(directory);
    await createDirectory(directory, { allowExisting: true }); // a copy by a tool that leaves empty folders out lacks it
    const waiting = new Waiting(request);
    for (let attempt = 1; ; attempt++) {
      const file = await announce(directory, request);
      const other = await findOther(directory, against, file);
      if (other === undefined) {
        await removeStale(directory, request.scope, file);
        return new Lock(file);
      }
      await removeFile(file);
      await waiting.again(attempt, () => lockedError(other, request)); // the other may be stepping back at this moment, too
    }
  }

  /** What was done under the lock is done: one that cannot be removed keeps others out until this process ends, but not this one. */
  async release(): Promise<void> {
    if (!(await tryToRemove(this.#file))) leftBehind.add(this.#file);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

/** The pauses between attempts. */
class Waiting {
  readonly #request: LockRequest;
  readonly #untilMs: number;

  constructor(request: LockRequest) {
    this.#request = request;
    this.#untilMs = performance.now() + (request.waitMs ?? 0);
  }

  /** Pauses before the next attempt, or throws what `failure` makes. */
  async again(attempt: number, failure: () => TimebandError): Promise<void> {
    const { attempts = ATTEMPTS, signal } = this.#request;
    if (signal?.aborted === true) throw new TimebandError('interrupted while waiting for a lock; nothing was changed.', { code: 'INTERRUPTED' });
    if (attempt < attempts) return await sleep(Math.random() * MAX_BACKOFF_MS);
    if (performance.now() >= this.#untilMs) throw failure();
    await sleep(WAITING_MS + Math.random() * MAX_BACKOFF_MS);
  }
}

/** Who else holds a lock of the scope. */
async function findOther(directory: string, scope: string, own: string): Promise<FoundLock | undefined> {
  try {
    return (await listLocks(directory, scope)).find((lock) => lock.file !== own && isHeld(lock));
  } catch (error) {
    await tryToRemove(own);
    throw error;
  }
}

async function announce(directory: string, request: LockRequest): Promise<string> {
  const unique = randomBytes(8).toString('hex');
  const holder: LockHolder = { ...currentProcess(), command: request.command, since: new Date().toISOString() };
  const temporary = path.join(directory, `${TEMPORARY_PREFIX}${unique}`);
  const file = path.join(directory, `${request.scope}.${unique}.json`);
  try {
    await writeNewFile(temporary, utf8(`${JSON.stringify(holder)}\n`));
    await rename(temporary, file);
  } catch (error) {
    await tryToRemove(temporary);
    if (error instanceof TimebandError && error.code === 'NO_SPACE') return await announceWithoutSpace(directory, file);
    throw ioError(error, 'write the lock', file);
  }
  return file;
}

/**
 * On a disk without a free block or inode, whoever deletes must still be able to lock: a hardlink to a file that is there
 * takes neither. It does not say who holds it, so if this process is killed, it counts as held until `break-lock`.
 */
async function announceWithoutSpace(directory: string, file: string): Promise<string> {
  const existing = path.join(path.dirname(directory), 'repository.json');
  try {
    await link(existing, file);
    return file;
  } catch (error) {
    throw ioError(error, 'write the lock', file);
  }
}

function isHeld(lock: FoundLock): boolean {
  return !leftBehind.has(lock.file) && (lock.holder === undefined || stateOf(lock.holder) !== 'gone');
}

/** Removes the locks of `scope`, and the unfinished ones, whose processes are gone, as far as that goes: they keep nobody out. Safe at any time: a dead process takes no lock again. */
async function removeStale(directory: string, scope: string, except: string): Promise<void> {
  const locks = await Promise.all([listLocks(directory, scope), listUnfinished(directory)]).catch(() => []);
  for (const lock of locks.flat()) if (lock.file !== except && !isHeld(lock)) await tryToRemove(lock.file);
}

/** The locks of a scope, or all of them. */
export async function listLocks(directory: string, scope?: string): Promise<FoundLock[]> {
  const names = await listDirectory(directory);
  return await readLocks(
    directory,
    names.filter((name) => LOCK_NAME.test(name) && (scope === undefined || name.startsWith(`${scope}.`))),
  );
}

async function listUnfinished(directory: string): Promise<FoundLock[]> {
  return await readLocks(
    directory,
    (await listDirectory(directory)).filter((name) => UNFINISHED_NAME.test(name)),
  );
}

async function readLocks(directory: string, names: readonly string[]): Promise<FoundLock[]> {
  const locks: FoundLock[] = [];
  for (const name of names) {
    const lock = await readLock(path.join(directory, name));
    if (lock !== undefined) locks.push(lock);
  }
  return locks;
}

async function readLock(file: string): Promise<FoundLock | undefined> {
  try {
    const text = new TextDecoder().decode(await readRegularFile(file, { maxBytes: MAX_LOCK_BYTES, what: 'lock' }));
    const holder: unknown = JSON.parse(text);
    return { file, holder: isHolder(holder) ? holder : undefined };
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'RECORD_MISSING') return undefined; // released meanwhile
    if (error instanceof SyntaxError || (error instanceof TimebandError && error.code === 'RECORD_CORRUPT')) return { file, holder: undefined };
    throw error;
  }
}

function isHolder(value: unknown): value is LockHolder {
  if (typeof value !== 'object' || value === null) return false;
  const fields: Record<string, unknown> = { ...value };
  const texts = ['host', 'bootId', 'pidNamespace', 'startTicks', 'command', 'since'];
  return texts.every((name) => typeof fields[name] === 'string') && Number.isInteger(fields['pid']);
}

function lockedError({ holder, file }: FoundLock, request: LockRequest): TimebandError {
  const who =
    holder === undefined
      ? 'by a lock file that cannot be read'
      : `by process ${holder.pid} on ${holder.host} ("${holder.command}", since ${holder.since})`;
  const isElsewhere = holder === undefined || stateOf(holder) === 'unknown';
  const advice = isElsewhere
    ? 'From here it cannot be told whether that process still runs. If you are sure that it does not, run "timeband break-lock".'
    : 'Wait until it is done, or stop it.';
  return new TimebandError(`${request.what} is locked ${who}. ${advice}`, { code: 'LOCKED', path: file });
}

/** Removes locks of gone processes, and with `force` those that cannot be judged from here; never one of a running process. */
export async function breakLocks(directory: string): Promise<{ readonly removed: FoundLock[]; readonly kept: FoundLock[] }> {
  const removed: FoundLock[] = [];
  const kept: FoundLock[] = [];
  const isRunning = ({ holder }: FoundLock): boolean => holder !== undefined && stateOf(holder) === 'running';
  for (const lock of await listUnfinished(directory)) if (!isRunning(lock)) await removeTree(lock.file);
  for (const lock of await listLocks(directory)) {
    if (!isRunning(lock)) await removeTree(lock.file); // whatever stands there; links are not followed
    (isRunning(lock) ? kept : removed).push(lock);
  }
  return { removed, kept };
}
