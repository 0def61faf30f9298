/**
 * The sessions of the target beside a new one, from which bands are linked. A band file belongs to a run of sessions one
 * after the other, so no session further away can have one that these have not.
 */
import { TimebandError } from '../../bands/errors.ts';
import { isSameContent, isSameEntry, type PageEntries } from '../../bands/format/index-page.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { pageOf } from '../sync/session-pages.ts';
import type { Volume } from '../volume.ts';

export interface Neighbour {
  /** In the target, or, for a copy that is only planned, in the source. */
  readonly session: SessionDirectory;
  /** The session of this id in the source, if its index tells what is shared there; undefined where the seals are the same ones. */
  readonly original: SessionDirectory | undefined;
}

/** An index page of a neighbour, and which bands of the new session are in its files. */
export interface NeighbourPage {
  readonly entries: PageEntries;
  isShared(wanted: PageEntries, i: number): boolean;
}

/**
 * Under the same keys a file is shared if it is the very same; under others if it holds the same and is shared in the
 * source, too: a band that changed and changed back stays two files, so that files keep belonging to runs of sessions. A
 * page that is damaged shares nothing: the new session gets files of its own.
 */
export async function neighbourPage({ session, original }: Neighbour, page: number, hasSameSeals: boolean): Promise<NeighbourPage> {
  const entries = (await pageOf(session, page).catch(ifDamaged)) ?? new Uint8Array(0);
  if (hasSameSeals) return { entries, isShared: (wanted, i) => isSameEntry(wanted, entries, i) };
  const there = original === undefined ? undefined : await pageOf(original, page).catch(ifDamaged);
  return { entries, isShared: (wanted, i) => isSameContent(wanted, entries, i) && (there === undefined || isSameEntry(wanted, there, i)) };
}

/** Undefined if there is none, or its manifest is damaged: that shows where it is needed itself. */
export async function openIfWhole(volume: Volume, id: string | undefined): Promise<SessionDirectory | undefined> {
  return id === undefined ? undefined : await volume.openSession(id).catch(ifDamaged);
}

function ifDamaged(error: unknown): undefined {
  if (!(error instanceof TimebandError) || !error.code.startsWith('RECORD_')) throw error;
}
