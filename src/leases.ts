/**
 * Leases: who is reading a session for longer than a moment (a restore, an opened image), so that nobody deletes it
 * meanwhile. Many may hold a lease of one session; a deleter announces itself and looks for leases, a reader announces
 * its lease and looks for a deleter: of two that come at once at least one sees the other and steps back.
 */
import path from 'node:path';
import { errnoOf, TimebandError } from '../bands/errors.ts';
import { statIfPresent } from '../bands/store/files.ts';
import { repositoryLayout, volumeLayout } from './layout.ts';
import { Lock, type LockRequest } from './locks.ts';

export interface LeasedSession {
  /** The repository's locks/ folder. */
  readonly locks: string;
  readonly volume: string;
  readonly volumeId: string;
  readonly sessionId: string;
  /** Who asks, for the message of whoever is refused. */
  readonly command: string;
}

function scopeOf(kind: 'read' | 'delete', { volumeId, sessionId }: LeasedSession): string {
  return `${kind}-${volumeId}-${sessionId.replace('.', '-')}`;
}

/** A reader's lease. */
export class Lease implements AsyncDisposable {
  readonly #lock: Lock | undefined;

  private constructor(lock: Lock | undefined) {
    this.#lock = lock;
  }

  /**
   * Takes a lease of a session that is about to be read. Where nothing can be written (a repository that is mounted
   * read-only, or another user's) none is kept, and nothing can be deleted from here either.
   * @throws TimebandError LOCKED (it is being deleted), SESSION_NOT_FOUND (it was)
   */
  static async take(session: LeasedSession): Promise<Lease> {
    const request = { scope: scopeOf('read', session), what: describe(session), command: session.command };
    const lease = await announce(session.locks, request, scopeOf('delete', session));
    try {
      await requireSession(session); // whoever named it looked before the lease
      return new Lease(lease);
    } catch (error) {
      await lease?.release();
      throw error;
    }
  }

  async release(): Promise<void> {
    await this.#lock?.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

async function announce(locks: string, request: LockRequest, against: string): Promise<Lock | undefined> {
  try {
    return await Lock.share(locks, request, against);
  } catch (error) {
    if (isUnwritable(error)) return undefined;
    throw error;
  }
}

async function requireSession({ locks, volume, volumeId, sessionId }: LeasedSession): Promise<void> {
  const { volumes } = repositoryLayout(path.dirname(locks));
  const folder = path.join(volumeLayout(path.join(volumes, volumeId)).sessions, sessionId);
  if ((await statIfPresent(folder)) !== undefined) return;
  throw new TimebandError(`session ${volume}@${sessionId} was deleted just now; see "timeband sessions ${volume}".`, { code: 'SESSION_NOT_FOUND' });
}

/** The right to delete a session, while it is held. @throws TimebandError LOCKED, with who reads it */
export async function acquireForDeletion(session: LeasedSession): Promise<Lock> {
  const request = { scope: scopeOf('delete', session), what: describe(session), command: session.command };
  return await Lock.share(session.locks, request, scopeOf('read', session));
}

function describe({ volume, sessionId }: LeasedSession): string {
  return `session ${volume}@${sessionId}`;
}

/** Whether writing failed because nothing may be written there at all. */
export function isUnwritable(error: unknown): boolean {
  const errno = error instanceof TimebandError ? errnoOf(error.cause) : errnoOf(error);
  return errno === 'EROFS' || errno === 'EACCES' || errno === 'EPERM';
}
