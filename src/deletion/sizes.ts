/**
 * What sessions take, and what deleting them frees. A band's file is shared by a run of sessions, each linked from the one
 * before, and an index entry names one file (its salt is random): so a file is a session's own if neither the session
 * before nor the one after has the same entry. Only index pages are compared, and only those that differ
 * from both; what a session added to its base, its manifest says. In a key domain others may have the file all the same: there
 * its links decide (`shared-files.ts`).
 */
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { entryCount, isSameEntry, isZeroEntry, type PageEntries, readEntry } from '../../bands/format/index-page.ts';
import { isInDomain, type SessionDirectory } from '../../bands/store/session-directory.ts';
import type { Volume } from '../volume.ts';
import { type CountedFiles, TakenLinks } from './shared-files.ts';

const NOTHING: PageEntries = new Uint8Array(0);
/** Sessions that are kept open while neighbours are compared: of a few that are looked at at once. */
const KEPT_OPEN = 8;

/** Bytes of band files. */
export interface SessionSizes {
  /** Of those that the session before does not have; in a key domain, of those that it stored itself, if its manifest tells. */
  readonly addedBytes: number;
  /** Of those that no other session has, of whatever volume: deleting this session alone frees them. */
  readonly freedBytes: number;
}

/** One session that is to go. */
export interface PlannedDeletion {
  readonly session: string;
  /** What is freed when it goes after those before it in the plan; undefined: its index, or a neighbour's, cannot be read. */
  readonly freedBytes: number | undefined;
}

/** What deleting `sessionIds`, oldest first, frees one after the other, and after what `taken` was taken before. */
export async function planDeletion(volume: Volume, sessionIds: readonly string[], taken: TakenLinks): Promise<PlannedDeletion[]> {
  const planner = await DeletionPlanner.of(volume, taken);
  const planned: PlannedDeletion[] = [];
  for (const session of sessionIds.toSorted()) planned.push({ session, freedBytes: await planner.take(session) });
  return planned;
}

/** Takes sessions out of a volume one after the other, in thought. */
export class DeletionPlanner {
  readonly #remaining: string[];
  readonly #open: OpenSession;
  /** In a key domain: of this volume, and of those that are planned with it. */
  readonly #taken: TakenLinks | undefined;

  private constructor(remaining: string[], open: OpenSession, taken: TakenLinks | undefined) {
    this.#remaining = remaining;
    this.#open = open;
    this.#taken = taken;
  }

  /** @param taken one for all volumes whose deletions are planned together */
  static async of(volume: Volume, taken: TakenLinks): Promise<DeletionPlanner> {
    return new DeletionPlanner(await volume.sessionIds(), keepOpen(volume), volume.record.domain === undefined ? undefined : taken);
  }

  /** What deleting `session` frees now; undefined: its index, or a neighbour's, cannot be read. */
  async take(session: string): Promise<number | undefined> {
    const at = this.#remaining.indexOf(session);
    if (at < 0) return undefined;
    const freedBytes =
      this.#taken === undefined ? (await sizesAt(this.#remaining, at, this.#open))?.freedBytes : await this.#takeLinks(session, this.#taken);
    this.#remaining.splice(at, 1);
    return freedBytes;
  }

  async #takeLinks(id: string, taken: TakenLinks): Promise<number | undefined> {
    let freedBytes = 0;
    try {
      await forEachFile(await this.#open(id), undefined, (file) => {
        freedBytes += taken.take(file);
      });
      return freedBytes;
    } catch (error) {
      return unreadable(error);
    }
  }
}

/** The sizes of one session; undefined: it is not there, or an index cannot be read. */
export async function sizesOfSession(volume: Volume, sessionId: string): Promise<SessionSizes | undefined> {
  const ids = await volume.sessionIds();
  return ids.includes(sessionId) ? await sizesAt(ids, ids.indexOf(sessionId), keepOpen(volume)) : undefined;
}

/** Opens a session of a volume. @throws TimebandError RECORD_MISSING, RECORD_CORRUPT */
export type OpenSession = (id: string) => Promise<SessionDirectory>;

/** Opens sessions, and keeps the last few: neighbours are looked at again at once. */
export function keepOpen(volume: Volume): OpenSession {
  const kept = new Map<string, Promise<SessionDirectory>>();
  return (id) => {
    const known = kept.get(id);
    if (known !== undefined) return known;
    const opened = volume.openSession(id);
    opened.catch(() => undefined); // whoever asked for it is told
    kept.set(id, opened);
    for (const old of kept.keys()) if (kept.size > KEPT_OPEN) kept.delete(old);
    return opened;
  };
}

/** The sizes of the session `ids[at]` beside its neighbours; undefined: one of the three cannot be read. */
export async function sizesAt(ids: readonly string[], at: number, open: OpenSession): Promise<SessionSizes | undefined> {
  const [older, id, newer] = [ids[at - 1], ids[at], ids[at + 1]];
  if (id === undefined) return undefined;
  try {
    const before = older === undefined ? undefined : await open(older);
    return await sizesBetween(await open(id), { before, after: newer === undefined ? undefined : await open(newer) });
  } catch (error) {
    return unreadable(error);
  }
}

/** The sizes of a session whose index cannot be read are not known: check tells what is damaged. */
function unreadable(error: unknown): undefined {
  if (!(error instanceof TimebandError)) throw error;
}

/** Bytes of the band files of a volume in a key domain that `counted` has not met before. @throws TimebandError RECORD_* */
export async function countFiles(volume: Volume, sessionIds: readonly string[], counted: CountedFiles): Promise<number> {
  const open = keepOpen(volume);
  let bytes = 0;
  let before: SessionDirectory | undefined;
  for (const id of sessionIds) {
    const session = await open(id);
    await forEachFile(session, before, (file) => {
      bytes += counted.count(file);
    });
    before = session;
  }
  return bytes;
}

/** Visits the paths of a session's band files, without those of index pages that the session `before` has, too. */
async function forEachFile(session: SessionDirectory, before: SessionDirectory | undefined, visit: (file: string) => void): Promise<void> {
  for (let page = 0; page < session.pageCount; page++) {
    if (hasSamePage(session, before, page)) continue;
    const entries = await session.readPage(page);
    const older = await pageOf(before, page);
    for (const [i, file] of pathsOf(session, page, entries).entries()) if (!isZeroEntry(entries, i) && !isSameEntry(entries, older, i)) visit(file);
  }
}

function pathsOf(session: SessionDirectory, page: number, entries: PageEntries): string[] {
  return session.bandPaths(page * ENTRIES_PER_PAGE, entryCount(entries));
}

async function sizesBetween(
  session: SessionDirectory,
  { before, after }: { readonly before: SessionDirectory | undefined; readonly after: SessionDirectory | undefined },
): Promise<SessionSizes> {
  const knownBytes = knownAddition(session, before);
  const taken = isInDomain(session.context) ? new TakenLinks() : undefined;
  let [addedBytes, freedBytes] = [0, 0];
  for (let page = 0; page < session.pageCount; page++) {
    const isShared = hasSamePage(session, after, page);
    if (hasSamePage(session, before, page) || (isShared && knownBytes !== undefined)) continue;
    const entries = await session.readPage(page);
    const older = await pageOf(before, page);
    const newer = isShared ? entries : await pageOf(after, page);
    const files = taken === undefined ? [] : pathsOf(session, page, entries);
    for (let i = 0; i < entryCount(entries); i++) {
      if (isZeroEntry(entries, i) || isSameEntry(entries, older, i)) continue;
      const { fileBytes } = readEntry(entries, i) ?? { fileBytes: 0 };
      addedBytes += fileBytes;
      if (!isSameEntry(entries, newer, i)) freedBytes += taken === undefined ? fileBytes : taken.take(files[i] ?? '');
    }
  }
  return { addedBytes: knownBytes ?? addedBytes, freedBytes };
}

/** What the manifest says that the session added: all it has to nothing, what it wrote to its base. Undefined beside another session. */
function knownAddition({ manifest, context }: SessionDirectory, before: SessionDirectory | undefined): number | undefined {
  if (before === undefined) return isInDomain(context) && manifest.base === undefined ? manifest.totals.writtenBytes : manifest.totals.storedBytes;
  const isBase = manifest.base !== undefined && equalBytes(manifest.base.manifestDigest, before.manifestDigest);
  return isBase ? manifest.totals.writtenBytes : undefined;
}

function hasSamePage(a: SessionDirectory, b: SessionDirectory | undefined, page: number): boolean {
  const [one, other] = [a.manifest.pageDigests[page], b?.manifest.pageDigests[page]];
  return one !== undefined && other !== undefined && equalBytes(one, other);
}

async function pageOf(session: SessionDirectory | undefined, page: number): Promise<PageEntries> {
  return session === undefined || page >= session.pageCount ? NOTHING : await session.readPage(page);
}
