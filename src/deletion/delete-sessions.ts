/** Deleting sessions and volumes. */
import { TimebandError } from '../../bands/errors.ts';
import type { Labels } from '../../bands/format/labels.ts';
import type { Catalog } from '../catalog.ts';
import { lockLabels } from '../labels.ts';
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
  /** Whether a session has to stay for the labels that it has by now: it may have been protected since somebody chose it. */
  readonly isKept?: ((sessionId: string, labels: Labels) => boolean) | undefined;
  readonly catalog?: Catalog | undefined;
}

/**
 * Deletes sessions of a volume. All of them are gone before this begins to remove files; if one cannot be moved away, the error
 * says which are gone already.
 * @throws TimebandError LOCKED (a sync runs, somebody reads one of them, or one has to stay), USAGE (the newest), SESSION_NOT_FOUND
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
    const newest = ids.findLast((id) => !sessionIds.includes(id));
    const moved = await moveSessions(repository, volume, sessionIds, { ...options, newest });
    for (const directory of moved) await removeTree(directory);
  } finally {
    for (const lock of held) await lock.release();
  }
}

/** Nobody protects a session, or takes its protection away, between the last look at its labels and its end. */
async function moveSessions(
  repository: Repository,
  volume: Volume,
  sessionIds: readonly string[],
  { isKept, catalog, newest }: Pick<DeleteOptions, 'isKept' | 'catalog'> & { readonly newest: string | undefined },
): Promise<string[]> {
  await using _labels = isKept === undefined ? undefined : await lockLabels(repository, { volume });
  for (const id of isKept === undefined ? [] : sessionIds) {
    if (isKept?.(id, await volume.readLabels(id)) === true)
      throw new TimebandError(
        `${volume.name}@${id} was protected, or got a tag that is kept, after it was chosen. No session of this volume was deleted; run it again.`,
        { code: 'LOCKED', path: volume.sessionPath(id) },
      );
  }
  await rememberNewest(volume, newest, catalog);
  return await moveToTrash(
    repository.layout.trash,
    sessionIds.map((sessionId) => volume.sessionPath(sessionId)),
  );
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
