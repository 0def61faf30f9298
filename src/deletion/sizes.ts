/**
 * What sessions take, and what deleting them frees. A band's file is shared by a run of sessions, each linked from the one
 * before, and an index entry names one file (its salt is random): so a file is a session's own if neither the session
 * before nor the one after has the same entry. Only index pages are compared, and only those that differ.
 */
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { entryCount, isSameEntry, isZeroEntry, type PageEntries, readEntry } from '../../bands/format/index-page.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { Volume } from '../volume.ts';

const NOTHING: PageEntries = new Uint8Array(0);
/** Sessions that are kept open while neighbours are compared. */
const KEPT_OPEN = 4;

/** Bytes of band files. */
export interface SessionSizes {
  /** Of those that the session before does not have. */
  readonly addedBytes: number;
  /** Of those that no other session has: deleting this session alone frees them. */
  readonly freedBytes: number;
}

/** One session that is to go. */
export interface PlannedDeletion {
  readonly session: string;
  /** What is freed when it goes after those before it in the plan; undefined: its index, or a neighbour's, cannot be read. */
  readonly freedBytes: number | undefined;
}

/** What deleting `sessionIds`, oldest first, frees one after the other. */
export async function planDeletion(volume: Volume, sessionIds: readonly string[]): Promise<PlannedDeletion[]> {
  const planner = await DeletionPlanner.of(volume);
  const planned: PlannedDeletion[] = [];
  for (const session of sessionIds.toSorted()) planned.push({ session, freedBytes: await planner.take(session) });
  return planned;
}

/** Takes sessions out of a volume one after the other, in thought. */
export class DeletionPlanner {
  readonly #remaining: string[];
  readonly #open: Open;

  private constructor(remaining: string[], open: Open) {
    this.#remaining = remaining;
    this.#open = open;
  }

  static async of(volume: Volume): Promise<DeletionPlanner> {
    return new DeletionPlanner(await volume.sessionIds(), openKept(volume));
  }

  /** What deleting `session` frees now; undefined: its index, or a neighbour's, cannot be read. */
  async take(session: string): Promise<number | undefined> {
    const at = this.#remaining.indexOf(session);
    if (at < 0) return undefined;
    const sizes = await sizesAt(this.#remaining, at, this.#open);
    this.#remaining.splice(at, 1);
    return sizes?.freedBytes;
  }
}

/** The sizes of one session; undefined: it is not there, or an index cannot be read. */
export async function sizesOfSession(volume: Volume, sessionId: string): Promise<SessionSizes | undefined> {
  const ids = await volume.sessionIds();
  return ids.includes(sessionId) ? await sizesAt(ids, ids.indexOf(sessionId), openKept(volume)) : undefined;
}

/** The sizes of each session of a volume, oldest first; undefined: an index cannot be read. */
export async function sessionSizes(volume: Volume): Promise<ReadonlyMap<string, SessionSizes | undefined>> {
  const ids = await volume.sessionIds();
  const open = openKept(volume);
  const sizes = new Map<string, SessionSizes | undefined>();
  for (const [at, id] of ids.entries()) sizes.set(id, await sizesAt(ids, at, open));
  return sizes;
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
    for (const old of kept.keys()) if (kept.size > KEPT_OPEN) kept.delete(old);
    return opened;
  };
}

async function sizesAt(ids: readonly string[], at: number, open: Open): Promise<SessionSizes | undefined> {
  const [before, session, after] = [await open(ids[at - 1]), await open(ids[at]), await open(ids[at + 1])];
  if (session === undefined || (at > 0 && before === undefined) || (at + 1 < ids.length && after === undefined)) return undefined;
  try {
    return await sizesBetween(session, { before, after });
  } catch (error) {
    if (error instanceof TimebandError) return undefined; // an index page is damaged: check tells which
    throw error;
  }
}

async function sizesBetween(
  session: SessionDirectory,
  { before, after }: { readonly before: SessionDirectory | undefined; readonly after: SessionDirectory | undefined },
): Promise<SessionSizes> {
  let [addedBytes, freedBytes] = [0, 0];
  for (let page = 0; page < session.pageCount; page++) {
    if (hasSamePage(session, before, page)) continue;
    const entries = await session.readPage(page);
    const older = await pageOf(before, page);
    const newer = hasSamePage(session, after, page) ? entries : await pageOf(after, page);
    for (let i = 0; i < entryCount(entries); i++) {
      if (isZeroEntry(entries, i) || isSameEntry(entries, older, i)) continue;
      const { fileBytes } = readEntry(entries, i) ?? { fileBytes: 0 };
      addedBytes += fileBytes;
      if (!isSameEntry(entries, newer, i)) freedBytes += fileBytes;
    }
  }
  return { addedBytes, freedBytes };
}

function hasSamePage(a: SessionDirectory, b: SessionDirectory | undefined, page: number): boolean {
  const [one, other] = [a.manifest.pageDigests[page], b?.manifest.pageDigests[page]];
  return one !== undefined && other !== undefined && equalBytes(one, other);
}

async function pageOf(session: SessionDirectory | undefined, page: number): Promise<PageEntries> {
  return session === undefined || page >= session.pageCount ? NOTHING : await session.readPage(page);
}
