/**
 * What a new session is made of, whether its bands come from a source or from another repository: links to band files of
 * sessions that are there, index pages, and the counts and the bitmap that follow from the index.
 */
import { Bitmap } from '../../bands/format/bitmap.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { ENTRY_BYTES, isSameContent, type PageEntries, readEntry } from '../../bands/format/index-page.ts';
import { linkOrCopy } from '../../bands/store/link-file.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import type { Incoming } from './incoming.ts';

/** Links that a worker makes without being asked again. */
const LINKS_PER_TASK = 128;
/** New index pages are handed to the catalog up to this many (32 MiB); beyond, it reads them when it needs them. */
export const MAX_REMEMBERED_PAGES = 1024;

export interface RememberedPage {
  readonly digest: Uint8Array;
  readonly entries: PageEntries;
}

/** What follows from the index of a session, in bands and bytes. */
export interface IndexCounts {
  zeroBands: number;
  changedBands: number;
  /** Bytes of all band files of the session. */
  storedBytes: number;
}

/** The index of a new session, page by page in any order. */
export class SessionPages {
  /** Bands that differ from the base's. */
  readonly changed: Bitmap;
  readonly pageDigests: Uint8Array[] = [];
  readonly newPages: Map<number, RememberedPage> = new Map();
  readonly #base: SessionDirectory | undefined;

  constructor(bandCount: number, base: SessionDirectory | undefined) {
    this.changed = new Bitmap(bandCount);
    this.#base = base;
  }

  /** The base's entries of a page; none where it has no such page. */
  async basePage(pageNumber: number): Promise<PageEntries> {
    return this.#base === undefined ? new Uint8Array(0) : await pageOf(this.#base, pageNumber);
  }

  /** Compares a finished page with the base's. */
  count(pageNumber: number, entries: PageEntries, { base, counts }: { readonly base: PageEntries; readonly counts: IndexCounts }): void {
    const isSamePage = equalBytes(base, entries);
    for (let i = 0; i < entries.length / ENTRY_BYTES; i++) {
      if (!isSamePage && !isSameContent(base, entries, i)) {
        counts.changedBands++;
        this.changed.set(pageNumber * ENTRIES_PER_PAGE + i);
      }
      const band = readEntry(entries, i);
      if (band === undefined) counts.zeroBands++;
      else counts.storedBytes += band.fileBytes;
    }
  }

  /** Writes a finished page, or links the base's, if it is the same. */
  async write(pageNumber: number, entries: PageEntries, incoming: Incoming): Promise<void> {
    this.pageDigests[pageNumber] = (await this.#linkPage(pageNumber, entries, incoming)) ?? (await this.#writePage(pageNumber, entries, incoming));
  }

  async #linkPage(pageNumber: number, entries: PageEntries, incoming: Incoming): Promise<Uint8Array | undefined> {
    const base = this.#base;
    const digest = base?.manifest.pageDigests[pageNumber];
    if (base === undefined || digest === undefined || !equalBytes(await this.basePage(pageNumber), entries)) return undefined;
    const isLinked = (await base.isPageFileIntact(pageNumber)) && linkOrCopy(base.pagePath(pageNumber), incoming.pagePath(pageNumber)) !== 'missing';
    return isLinked ? digest : undefined;
  }

  async #writePage(pageNumber: number, entries: PageEntries, incoming: Incoming): Promise<Uint8Array> {
    const digest = await incoming.writeRecord(incoming.pagePath(pageNumber), { kind: 'page', at: pageNumber }, entries);
    if (this.newPages.size < MAX_REMEMBERED_PAGES) this.newPages.set(pageNumber, { digest, entries });
    return digest;
  }
}

export async function pageOf(session: SessionDirectory, pageNumber: number): Promise<PageEntries> {
  return pageNumber < session.pageCount ? await session.readPage(pageNumber) : new Uint8Array(0);
}

/** Files that are to be linked: `from[i]` becomes `to[i]` for each `i` of `wanted`. */
export interface LinkRequest {
  readonly from: readonly string[];
  readonly to: readonly string[];
  readonly wanted: readonly number[];
}

export interface LinkCounts {
  linkedBands: number;
  /** Band files copied because no more links to them were possible. */
  copiedBands: number;
}

/** Links band files in the order of their names. @returns those of `wanted` that are not there */
export async function linkBands(pool: BandPool, { from, to, wanted }: LinkRequest, counts: LinkCounts): Promise<number[]> {
  const missing: number[] = [];
  await forEachBounded(partsOf(sortedByName(to, wanted), LINKS_PER_TASK), pool.capacity, async (part) => {
    const files = { from: part.map((i) => from[i] ?? ''), to: part.map((i) => to[i] ?? '') };
    for (const [at, outcome] of (await pool.run('linkFiles', files)).entries()) {
      if (outcome === 'missing') missing.push(part[at] ?? 0);
      else counts[outcome === 'linked' ? 'linkedBands' : 'copiedBands']++;
    }
  });
  return missing;
}

function partsOf<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}

/** The order in which the files of a page are made: that of their names, which tells nobody their positions. */
export function sortedByName(paths: readonly string[], wanted: readonly number[]): number[] {
  return wanted.toSorted((a, b) => ((paths[a] ?? '') < (paths[b] ?? '') ? -1 : 1));
}
