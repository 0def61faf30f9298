/**
 * The rollback guard: the catalog remembers the newest session of each volume, so a repository that was put back to an
 * older state, or whose newest session was replaced, is noticed.
 */
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { Catalog } from '../catalog.ts';
import type { Volume } from '../volume.ts';

export interface RollbackCheck {
  readonly catalog: Catalog | undefined;
  readonly volume: Volume;
  readonly newest: SessionDirectory | undefined;
  readonly isAccepted: boolean;
}

/** What is wrong, or undefined. A newer session than remembered is no rollback: another machine made it. */
export async function findRollback({ catalog, volume, newest }: Omit<RollbackCheck, 'isAccepted'>): Promise<string | undefined> {
  const remembered = await catalog?.newest(volume.id);
  if (remembered === undefined) return undefined;
  if (newest === undefined || newest.sessionId < remembered.sessionId) {
    return `the newest session of "${volume.name}" that this machine has seen is ${remembered.sessionId}, but the repository's is ${newest?.sessionId ?? 'none'}`;
  }
  const isReplaced = newest.sessionId === remembered.sessionId && !equalBytes(newest.manifestDigest, remembered.manifestDigest);
  return isReplaced
    ? `session ${newest.sessionId} of "${volume.name}" is not the one that this machine has seen (its manifest was replaced)`
    : undefined;
}

/** @throws TimebandError ROLLBACK_DETECTED, unless the user accepted it; then the catalog forgets what it remembered */
export async function checkRollback(check: RollbackCheck): Promise<void> {
  const problem = await findRollback(check);
  if (problem === undefined) return;
  if (!check.isAccepted) {
    throw new TimebandError(
      `${problem}. Sessions were removed, or an older copy of the repository was put in its place. Nothing was changed. ` +
        'If you did that yourself, go on with --accept-rollback.',
      { code: 'ROLLBACK_DETECTED', path: check.volume.layout.sessions },
    );
  }
  if (check.newest !== undefined) await check.catalog?.rememberNewest(check.volume.id, check.newest);
}
