/**
 * The body of a sync: page by page (512 bands), read the bands that may have changed, store those that did, link the
 * rest from the base, write the index page. Memory does not grow with the volume: two pages are under way at once.
 *
 * Nothing is linked before the first change is found, so a sync that finds none leaves nothing behind. Pages that were
 * passed before that wait in `#deferred` and are linked at the end.
 */
import { nodePrimitives } from '../../bands/crypto/node-primitives.ts';
import { TimebandError } from '../../bands/errors.ts';
import type { Bitmap } from '../../bands/format/bitmap.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { bandCountOf, bandLengthOf, ENTRIES_PER_PAGE, entriesInPage, pageCountOf } from '../../bands/format/geometry.ts';
import { ENTRY_BYTES, isSameEntry, isZeroEntry, type PageEntries, readEntry, writeEntry } from '../../bands/format/index-page.ts';
import { encodeNames } from '../../bands/format/names.ts';
import { removeFileSync } from '../../bands/store/files.ts';
import type { SessionDirectory, VolumeContext } from '../../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import type { BandKeyMaterial, StoreBandResult } from '../../bands/workers/tasks.ts';
import { isDamage } from '../damage-log.ts';
import type { OnProgress } from '../progress.ts';
import type { DataMap } from '../sources/data-map.ts';
import type { SourceView } from '../sources/source.ts';
import type { Incoming } from './incoming.ts';
import { type IndexCounts, type LinkCounts, linkBands, SessionPages } from './session-pages.ts';
import type { SharedBands } from './shared-bands.ts';

const PAGES_AT_ONCE = 2;

export interface PageSyncInput {
  readonly view: SourceView;
  /** Where the source's data is; undefined: bands are read whole. */
  readonly dataMap: DataMap | undefined;
  readonly context: VolumeContext;
  readonly base: SessionDirectory | undefined;
  /** Bands to read; undefined: all. */
  readonly candidates: Bitmap | undefined;
  /** Bands whose file in the base is damaged: they are among the candidates, and stored again even if they did not change. */
  readonly damagedInBase: Bitmap | undefined;
  /** Where to look for bands that other volumes of the key domain hold; undefined: the volume shares with none. */
  readonly shared: SharedBands | undefined;
  readonly pool: BandPool;
  /** Where the session is written; undefined: only measure. */
  readonly incoming: Incoming | undefined;
  /** Whether it holds band files of a sync that was interrupted. */
  readonly isResumed: boolean;
  readonly sessionMs: number;
  /** Make a session even if nothing changed. */
  readonly isForced: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: OnProgress | undefined;
}

/** What was done, in bands and bytes. */
export interface SyncCounts extends IndexCounts, LinkCounts {
  readBytes: number;
  /** Band files written, and their bytes. */
  writtenBands: number;
  writtenBytes: number;
  /** Padding among those bytes. */
  paddedBytes: number;
  /** Of the band files written, those that an interrupted sync had left. */
  resumedBands: number;
  /** Bands whose file another volume of the key domain had, and their bytes. */
  sharedBands: number;
  sharedBytes: number;
  /** Bands that were stored again because the base's file is missing. */
  storedAgain: number;
}

export class PageSync {
  readonly counts: SyncCounts = {
    readBytes: 0,
    zeroBands: 0,
    changedBands: 0,
    writtenBands: 0,
    writtenBytes: 0,
    paddedBytes: 0,
    linkedBands: 0,
    copiedBands: 0,
    resumedBands: 0,
    sharedBands: 0,
    sharedBytes: 0,
    storedAgain: 0,
    storedBytes: 0,
  };
  readonly index: SessionPages;
  readonly #input: PageSyncInput;
  readonly #keys: BandKeyMaterial;
  readonly #bandCount: number;
  readonly #deferred: number[] = [];
  #hasChanges: boolean;
  #doneBands = 0;
  readonly #totalBytes: number;

  constructor(input: PageSyncInput) {
    this.#input = input;
    this.#keys = shareBandKeys(input.context);
    this.#bandCount = bandCountOf(input.view.sizeBytes, input.context.bandBytes);
    this.index = new SessionPages(this.#bandCount, input.base);
    this.#hasChanges = input.isForced || input.base === undefined || input.base.manifest.sizeBytes !== input.view.sizeBytes;
    const candidateBytes = input.candidates === undefined ? Number.POSITIVE_INFINITY : input.candidates.count() * input.context.bandBytes;
    this.#totalBytes = Math.min(input.dataMap?.dataBytes ?? input.view.sizeBytes, candidateBytes);
  }

  /** Bands that differ from the base's. */
  get changed(): Bitmap {
    return this.index.changed;
  }

  /** Whether there is anything to commit; meaningful after run(). */
  get hasChanges(): boolean {
    return this.#hasChanges;
  }

  /** Runs to the end or throws; then nothing of it is under way any more. */
  async run(): Promise<void> {
    const pages = Array.from({ length: pageCountOf(this.#bandCount) }, (_, i) => i);
    await forEachBounded(pages, PAGES_AT_ONCE, (pageNumber) => this.#syncPage(pageNumber));
    const { incoming, isResumed } = this.#input;
    if (!this.#hasChanges || incoming === undefined) return;
    if (isResumed) await incoming.removeBandsFrom(this.#bandCount);
    await forEachBounded(this.#deferred, PAGES_AT_ONCE, async (pageNumber) => {
      const entries = Uint8Array.from(await this.#basePage(pageNumber)); // healing writes to it; the page that was read is shared
      await this.#finishPage(pageNumber, entries);
    });
  }

  async #basePage(pageNumber: number): Promise<PageEntries> {
    try {
      return await this.index.basePage(pageNumber);
    } catch (cause) {
      if (!isDamage(cause)) throw cause;
      throw new TimebandError(
        `${cause.message}. No session was made, as it would build on ${this.#input.base?.sessionId}. Run "timeband check --repair"; if that cannot mend it, ` +
          'delete that session (--even-newest), and the next sync goes on from the one before.',
        { code: cause.code, cause, ...(cause.path === undefined ? {} : { path: cause.path }) },
      );
    }
  }

  async #syncPage(pageNumber: number): Promise<void> {
    this.#throwIfAborted();
    const base = await this.#basePage(pageNumber);
    const entries = new Uint8Array(entriesInPage(pageNumber, this.#bandCount) * ENTRY_BYTES);
    entries.set(base.subarray(0, entries.length));
    const bands = this.#bandsToRead(pageNumber, entries.length / ENTRY_BYTES);
    await this.#readBands(pageNumber, bands, { base, entries });
    this.#report();
    if (this.#input.incoming === undefined) this.index.count(pageNumber, entries, { base, counts: this.counts });
    else if (this.#hasChanges) await this.#finishPage(pageNumber, entries);
    else this.#deferred.push(pageNumber);
  }

  /** The candidates of a page in the order of their names: creation order then tells nobody their positions. */
  #bandsToRead(pageNumber: number, count: number): { readonly i: number; readonly file: string | undefined }[] {
    const first = pageNumber * ENTRIES_PER_PAGE;
    const { incoming, candidates, context } = this.#input;
    const names =
      incoming === undefined
        ? encodeNames(nodePrimitives, context.keys.namesKey, { kind: 'band', first, count }).map((sortKey) => ({ sortKey, file: undefined }))
        : incoming.bandPaths(first, count).map((file) => ({ sortKey: file, file }));
    const all = names.map(({ sortKey, file }, i) => ({ i, sortKey, file }));
    const wanted = candidates === undefined ? all : all.filter(({ i }) => candidates.has(first + i));
    return wanted.sort((a, b) => (a.sortKey < b.sortKey ? -1 : 1));
  }

  async #readBands(
    pageNumber: number,
    bands: readonly { readonly i: number; readonly file: string | undefined }[],
    page: { readonly base: PageEntries; readonly entries: PageEntries },
  ): Promise<void> {
    const inHoles: number[] = [];
    const withData = bands.filter(({ i }) => {
      const ranges = this.#dataRanges(pageNumber, i);
      if (ranges?.length === 0) inHoles.push(i);
      return ranges?.length !== 0;
    });
    for (const i of inHoles) this.#takeZero(page, i);
    await forEachBounded(withData, this.#input.pool.capacity, async ({ i, file }) => {
      this.#throwIfAborted();
      const isDamaged = this.#input.damagedInBase?.has(pageNumber * ENTRIES_PER_PAGE + i) === true;
      await this.#readBand(pageNumber, i, { ...page, file, baseFingerprint: isDamaged ? undefined : readEntry(page.base, i)?.fingerprint });
      this.#doneBands++;
      this.#report();
    });
    this.#doneBands += page.entries.length / ENTRY_BYTES - withData.length;
  }

  #dataRanges(pageNumber: number, i: number): number[] | undefined {
    const { view, context, dataMap } = this.#input;
    const bandIndex = pageNumber * ENTRIES_PER_PAGE + i;
    return dataMap?.within(bandIndex * context.bandBytes, bandLengthOf(bandIndex, view.sizeBytes, context.bandBytes));
  }

  #takeZero(page: { readonly base: PageEntries; readonly entries: PageEntries }, i: number): void {
    writeEntry(page.entries, i, undefined);
    if (!isZeroEntry(page.base, i)) this.#hasChanges = true;
  }

  async #readBand(
    pageNumber: number,
    i: number,
    page: {
      readonly base: PageEntries;
      readonly entries: PageEntries;
      readonly file: string | undefined;
      readonly baseFingerprint: Uint8Array | undefined;
    },
  ): Promise<void> {
    const { view, context, pool, sessionMs, isResumed, shared } = this.#input;
    const bandIndex = pageNumber * ENTRIES_PER_PAGE + i;
    const range = { offset: bandIndex * context.bandBytes, length: bandLengthOf(bandIndex, view.sizeBytes, context.bandBytes) };
    const { file, baseFingerprint } = page;
    const store = (known: Uint8Array | undefined): Promise<StoreBandResult> =>
      view.withBand(range, this.#dataRanges(pageNumber, i), (input) =>
        pool.run('storeBand', { keys: this.#keys, input, baseFingerprint, file, mayExist: isResumed, mtimeSeconds: sessionMs / 1000, known }),
      );
    let result = await store(shared?.filter);
    this.counts.readBytes += result.readBytes;
    if (result.status === 'known') {
      const band = await shared?.take(result, file === undefined ? undefined : { file, keys: this.#keys }, pool);
      if (band !== undefined) {
        this.#hasChanges = true;
        writeEntry(page.entries, i, band);
        this.counts.sharedBands++;
        this.counts.sharedBytes += band.fileBytes;
        return;
      }
      result = await store(undefined);
      this.counts.readBytes += result.readBytes;
    }
    if (result.status === 'zero') this.#takeZero(page, i);
    if (result.status !== 'stored') return;
    this.#hasChanges = true;
    writeEntry(page.entries, i, result.band);
    this.counts.writtenBands++;
    this.counts.writtenBytes += result.band.fileBytes;
    this.counts.paddedBytes += result.paddingBytes;
    if (result.isAdopted) this.counts.resumedBands++;
  }

  /** Links what the page keeps from the base and writes the page, or links it, too, if it is the same. */
  async #finishPage(pageNumber: number, entries: PageEntries): Promise<void> {
    const base = await this.#basePage(pageNumber);
    const { incoming } = this.#input;
    if (incoming === undefined) throw new RangeError('incoming: needed to finish a page');
    if (this.#input.isResumed) this.#removeOutdated(pageNumber, { base, entries }, incoming);
    const missing = await this.#linkBands(pageNumber, { base, entries }, incoming);
    for (const { i, file } of missing) await this.#readBand(pageNumber, i, { base, entries, file, baseFingerprint: undefined });
    this.counts.storedAgain += missing.length;
    this.index.count(pageNumber, entries, { base, counts: this.counts });
    await this.index.write(pageNumber, entries, incoming);
  }

  /** Removes what an interrupted sync left of bands that are zeros by now, or those of the base. */
  #removeOutdated(pageNumber: number, page: { readonly base: PageEntries; readonly entries: PageEntries }, incoming: Incoming): void {
    const files = incoming.bandPaths(pageNumber * ENTRIES_PER_PAGE, page.entries.length / ENTRY_BYTES);
    for (const [i, file] of files.entries()) if (isZeroEntry(page.entries, i) || isSameEntry(page.base, page.entries, i)) removeFileSync(file);
  }

  /** @returns the bands whose file in the base is missing */
  async #linkBands(
    pageNumber: number,
    page: { readonly base: PageEntries; readonly entries: PageEntries },
    incoming: Incoming,
  ): Promise<{ readonly i: number; readonly file: string }[]> {
    const { base, pool } = this.#input;
    if (base === undefined || page.base.length === 0) return [];
    const first = pageNumber * ENTRIES_PER_PAGE;
    const count = page.entries.length / ENTRY_BYTES;
    const [from, to] = [base.bandPaths(first, count), incoming.bandPaths(first, count)];
    const isSamePage = equalBytes(page.base, page.entries);
    const all = Array.from({ length: count }, (_, i) => i);
    const wanted = all.filter((i) => !isZeroEntry(page.entries, i) && (isSamePage || isSameEntry(page.base, page.entries, i)));
    const missing = await linkBands(pool, { from, to, wanted }, this.counts);
    return missing.map((i) => ({ i, file: to[i] ?? '' }));
  }

  #report(): void {
    this.#input.onProgress?.({
      phase: 'sync',
      doneBands: this.#doneBands,
      totalBands: this.#bandCount,
      doneBytes: this.counts.readBytes,
      totalBytes: this.#totalBytes,
    });
  }

  #throwIfAborted(): void {
    if (this.#input.signal?.aborted === true) throw interrupted();
  }
}

/** What an aborted operation throws. */
export function interrupted(): TimebandError {
  return new TimebandError('interrupted; no session was made, and every earlier session is as it was.', { code: 'INTERRUPTED' });
}
