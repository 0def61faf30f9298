/** Deleting sessions and volumes. */
import { TimebandError } from '../../bands/errors.ts';
import type { Catalog } from '../catalog.ts';
import { acquireForDeletion } from '../leases.ts';
import type { Lock } from '../locks.ts';
import type { Repository } from '../repository.ts';
import type { Volume } from '../volume.ts';
import { emptyTrash, moveToTrash, removeTree } from './trash.ts';

export interface DeleteOptions {
  /** The command, for whoever finds the lock. */
  readonly command: string;
  /** Delete the newest session, too. */
  readonly evenNewest?: boolean;
  /** Refuse if one of them is protected, which it may have become since it was chosen. */
  readonly sparesProtected?: boolean;
  readonly catalog?: Catalog | undefined;
}

/**
 * Deletes sessions of a volume. All of them are gone before this begins to remove files; if one cannot be moved away, the error
 * says which are gone already.
 * @throws TimebandError LOCKED (a sync runs, or somebody reads one of them), USAGE (the newest, one that is protected), SESSION_NOT_FOUND
 */
export async function deleteSessions(repository: Repository, volume: Volume, sessionIds: readonly string[], options: DeleteOptions): Promise<void> {
  const { locks, trash } = repository.layout;
  const { command } = options;
  await using _lock = await repository.lockVolume(volume, command);
  await emptyTrash(trash, [volume.layout.sessions]);
  const ids = await volume.sessionIds();
  checkDeletable(volume, ids, sessionIds, options.evenNewest ?? false);
  const held: Lock[] = [];
  try {
    for (const sessionId of sessionIds) held.push(await acquireForDeletion({ locks, volume: volume.name, volumeId: volume.id, sessionId, command }));
    if (options.sparesProtected === true) await refuseProtected(volume, sessionIds);
    await rememberNewest(
      volume,
      ids.findLast((id) => !sessionIds.includes(id)),
      options.catalog,
    );
    const moved = await moveToTrash(
      trash,
      sessionIds.map((sessionId) => volume.sessionPath(sessionId)),
    );
    for (const directory of moved) await removeTree(directory);
  } finally {
    for (const lock of held) await lock.release();
  }
}

function checkDeletable(volume: Volume, ids: readonly string[], sessionIds: readonly string[], evenNewest: boolean): void {
  for (const id of sessionIds) {
    if (!ids.includes(id))
      throw new TimebandError(`volume "${volume.name}" has no session ${id} (any more). Nothing was deleted.`, { code: 'SESSION_NOT_FOUND' });
  }
  const newest = ids.at(-1);
  if (newest === undefined || !sessionIds.includes(newest) || evenNewest) return;
  throw new TimebandError(
    `${newest} is the newest session of "${volume.name}". Nothing was deleted. Use --even-newest to delete it, too; "timeband delete-volume" removes a whole volume.`,
    { code: 'USAGE' },
  );
}

async function refuseProtected(volume: Volume, sessionIds: readonly string[]): Promise<void> {
  for (const id of sessionIds) {
    if (!(await volume.readLabels(id)).isProtected) continue;
    throw new TimebandError(
      `session ${volume.name}@${id} has been protected meanwhile. Nothing of "${volume.name}" was deleted; run the command again.`,
      {
        code: 'USAGE',
      },
    );
  }
}

/**
 * So that the rollback guard does not take the deletion for a repository that was put back. Before the deletion: a process
 * that is killed in between leaves a newer session than is remembered, which is nothing to the guard.
 */
async function rememberNewest(volume: Volume, newest: string | undefined, catalog: Catalog | undefined): Promise<void> {
  if (newest === undefined) await catalog?.forgetNewest(volume.id);
  else {
    const opened = await volume.openSession(newest).catch(() => undefined); // damaged: the guard will ask, as it should
    if (opened !== undefined) await catalog?.rememberNewest(volume.id, opened, { isDurable: true });
  }
}

/** Deletes a volume with all its sessions. @throws TimebandError LOCKED */
export async function deleteVolume(repository: Repository, volume: Volume, options: DeleteOptions): Promise<void> {
  const { locks, trash, volumes } = repository.layout;
  const { command } = options;
  await using _lock = await repository.lockVolume(volume, command);
  const held: Lock[] = [];
  try {
    for (const sessionId of await volume.sessionIds()) {
      held.push(await acquireForDeletion({ locks, volume: volume.name, volumeId: volume.id, sessionId, command }));
    }
    const [moved] = await moveToTrash(trash, [volume.layout.root]);
    await options.catalog?.forgetNewest(volume.id);
    if (moved !== undefined) await removeTree(moved);
    await emptyTrash(trash, [volumes]);
  } finally {
    for (const lock of held) await lock.release();
  }
}
