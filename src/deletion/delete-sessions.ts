/** Deleting sessions: what it would free, and doing it. */
import { TimebandError } from '../../bands/errors.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { Catalog } from '../catalog.ts';
import { acquireForDeletion } from '../leases.ts';
import { Lock } from '../locks.ts';
import type { Repository } from '../repository.ts';
import type { Volume } from '../volume.ts';
import { exclusiveBytes } from './sizes.ts';
import { emptyTrash, moveToTrash, removeTree } from './trash.ts';

/** One session that is to go. */
export interface PlannedDeletion {
  readonly session: string;
  /** Bytes of band files that have no link left when it and those before it in the plan are gone; undefined: its index cannot be read. */
  readonly freedBytes: number | undefined;
}

/** What deleting `sessionIds`, oldest first, frees one after the other. */
export async function planDeletion(volume: Volume, sessionIds: readonly string[]): Promise<PlannedDeletion[]> {
  const remaining = await volume.sessionIds();
  const planned: PlannedDeletion[] = [];
  const open = openKept(volume);
  for (const session of sessionIds.toSorted()) {
    const at = remaining.indexOf(session);
    if (at < 0) continue;
    planned.push({ session, freedBytes: await freedBytes(remaining, at, open) });
    remaining.splice(at, 1);
  }
  return planned;
}

/** What deleting each session alone would free, in the order of `volume.sessionIds()`. */
export async function freedByEach(volume: Volume): Promise<ReadonlyMap<string, number | undefined>> {
  const ids = await volume.sessionIds();
  const open = openKept(volume);
  const freed = new Map<string, number | undefined>();
  for (const [at, id] of ids.entries()) freed.set(id, await freedBytes(ids, at, open));
  return freed;
}

type Open = (id: string | undefined) => Promise<SessionDirectory | undefined>;

/** Opens sessions, and keeps the last few: neighbours are looked at again at once. A damaged one is undefined. */
function openKept(volume: Volume): Open {
  const kept = new Map<string, Promise<SessionDirectory | undefined>>();
  return (id) => {
    if (id === undefined) return Promise.resolve(undefined);
    const known = kept.get(id);
    if (known !== undefined) return known;
    const opened = volume.openSession(id).catch(() => undefined);
    kept.set(id, opened);
    for (const old of kept.keys()) if (kept.size > 4) kept.delete(old);
    return opened;
  };
}

async function freedBytes(ids: readonly string[], at: number, open: Open): Promise<number | undefined> {
  const [before, session, after] = [await open(ids[at - 1]), await open(ids[at]), await open(ids[at + 1])];
  if (session === undefined || (at > 0 && before === undefined) || (at + 1 < ids.length && after === undefined)) return undefined;
  try {
    return await exclusiveBytes(session, { before, after });
  } catch (error) {
    if (error instanceof TimebandError) return undefined; // an index page is damaged: check tells which
    throw error;
  }
}

export interface DeleteOptions {
  /** The command, for whoever finds the lock. */
  readonly command: string;
  /** Delete the newest session, too. */
  readonly evenNewest?: boolean;
  readonly catalog?: Catalog | undefined;
}

/**
 * Deletes sessions of a volume. All of them are gone once this begins to remove files, or none if it throws before.
 * @throws TimebandError LOCKED (a sync runs, or somebody reads one of them), USAGE (the newest), SESSION_NOT_FOUND
 */
export async function deleteSessions(repository: Repository, volume: Volume, sessionIds: readonly string[], options: DeleteOptions): Promise<void> {
  const { locks, trash } = repository.layout;
  const { command } = options;
  await using _lock = await Lock.acquire(locks, { scope: volume.id, what: `volume "${volume.name}"`, command });
  await emptyTrash(trash, [volume.layout.sessions]);
  const ids = await volume.sessionIds();
  checkDeletable(volume, ids, sessionIds, options.evenNewest ?? false);
  const held: Lock[] = [];
  try {
    for (const sessionId of sessionIds) held.push(await acquireForDeletion({ locks, volume: volume.name, volumeId: volume.id, sessionId, command }));
    const moved = await moveToTrash(
      trash,
      sessionIds.map((sessionId) => volume.sessionPath(sessionId)),
    );
    await rememberNewest(volume, options.catalog);
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

/** So that the rollback guard does not take the deletion for a repository that was put back. */
async function rememberNewest(volume: Volume, catalog: Catalog | undefined): Promise<void> {
  const newest = (await volume.sessionIds()).at(-1);
  if (newest === undefined) await catalog?.forgetNewest(volume.id);
  else {
    const opened = await volume.openSession(newest).catch(() => undefined); // damaged: the guard will ask, as it should
    if (opened !== undefined) await catalog?.rememberNewest(volume.id, opened);
  }
}

/** Deletes a volume with all its sessions. @throws TimebandError LOCKED */
export async function deleteVolume(repository: Repository, volume: Volume, options: DeleteOptions): Promise<void> {
  const { locks, trash, volumes } = repository.layout;
  const { command } = options;
  await using _lock = await Lock.acquire(locks, { scope: volume.id, what: `volume "${volume.name}"`, command });
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
