/**
 * The rollback guard: the catalog remembers the newest session of each volume, so a repository that was put back to an
 * older state, or whose newest session was replaced, is noticed.
 */
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import type { Catalog, NewestSession } from '../catalog.ts';
import type { Volume } from '../volume.ts';

export interface RollbackCheck<Newest extends FoundSession = FoundSession> {
  readonly catalog: Catalog | undefined;
  readonly volume: Volume;
  /** The newest session that the repository has. */
  readonly newest: Newest | undefined;
}

/** A session that is there. Without a digest it cannot be read, which is told elsewhere: that says nothing of a rollback. */
interface FoundSession {
  readonly sessionId: string;
  readonly manifestDigest: Uint8Array | undefined;
}

/** What is wrong, or undefined. A newer session than remembered is no rollback: another machine made it. */
export async function findRollback({ catalog, volume, newest }: RollbackCheck): Promise<string | undefined> {
  const remembered = await catalog?.newest(volume.id);
  if (remembered === undefined) return undefined;
  if (newest === undefined || newest.sessionId < remembered.sessionId) {
    return `the newest session of "${volume.name}" that this machine has seen is ${remembered.sessionId}, but the repository's is ${newest?.sessionId ?? 'none'}`;
  }
  const { sessionId, manifestDigest } = newest;
  const isReplaced = sessionId === remembered.sessionId && manifestDigest !== undefined && !equalBytes(manifestDigest, remembered.manifestDigest);
  return isReplaced
    ? `session ${newest.sessionId} of "${volume.name}" is not the one that this machine has seen (its manifest was replaced)`
    : undefined;
}

/** @throws TimebandError ROLLBACK_DETECTED, unless the user accepted it; then the catalog forgets what it remembered, but for a dry run */
export async function checkRollback(
  check: RollbackCheck<NewestSession> & { readonly isAccepted: boolean; readonly isDryRun?: boolean },
): Promise<void> {
  const problem = await findRollback(check);
  if (problem === undefined) return;
  if (!check.isAccepted) {
    throw new TimebandError(
      `${problem}. Sessions were removed, or an older copy of the repository was put in its place. Nothing was changed. ` +
        'If you did that yourself, go on with --accept-rollback.',
      { code: 'ROLLBACK_DETECTED', path: check.volume.layout.sessions },
    );
  }
  if (check.newest !== undefined && check.isDryRun !== true) await check.catalog?.rememberNewest(check.volume.id, check.newest);
}
