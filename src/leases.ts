/**
 * Leases: who is reading a session for longer than a moment (a restore, an opened image), so that nobody deletes it
 * meanwhile. Many may hold a lease of one session; a deleter announces itself and looks for leases, a reader announces
 * its lease and looks for a deleter: of two that come at once at least one sees the other and steps back.
 */
import { errnoOf, TimebandError } from '../bands/errors.ts';
import { Lock } from './locks.ts';

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
   * @throws TimebandError LOCKED (it is being deleted)
   */
  static async take(session: LeasedSession): Promise<Lease> {
    const request = { scope: scopeOf('read', session), what: describe(session), command: session.command };
    try {
      return new Lease(await Lock.share(session.locks, request, scopeOf('delete', session)));
    } catch (error) {
      if (isUnwritable(error)) return new Lease(undefined);
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
