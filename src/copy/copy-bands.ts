/**
 * The bands of one session on their way into another repository, page by page. A band that a session of the target beside
 * the new one holds already is linked from there; the others are verified and copied as they are, or sealed anew with the
 * target's keys. Nothing of a band's content crosses to this thread.
 */
import { errnoOf, TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { bandLengthOf, ENTRIES_PER_PAGE, entriesInPage } from '../../bands/format/geometry.ts';
import { ENTRY_BYTES, isZeroEntry, type PageEntries, readEntry, type StoredBand, writeEntry } from '../../bands/format/index-page.ts';
import { removeFileSync } from '../../bands/store/files.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import type { BandFileTask, BandKeyMaterial } from '../../bands/workers/tasks.ts';
import { saltName } from '../damaged-bands.ts';
import { BandProver } from '../repair/band-files.ts';
import type { Incoming } from '../sync/incoming.ts';
import { type LinkCounts, linkBands, sortedByName } from '../sync/session-pages.ts';
import type { SharedBands } from '../sync/shared-bands.ts';
import { type Neighbour, neighbourPage } from './neighbour.ts';

/** What was done, in bands and bytes. */
export interface CopyCounts extends LinkCounts {
  /** Bands that were copied or sealed, those of an earlier run that was cut short included. */
  writtenBands: number;
  writtenBytes: number;
  /** Of those, bands that an earlier run had written already. */
  resumedBands: number;
  readBytes: number;
}

export interface BandCopyInput {
  readonly source: SessionDirectory;
  /** Those that bands are linked from. */
  readonly neighbours: readonly Neighbour[];
  readonly incoming: Incoming;
  /** Band files of an earlier run may be there. */
  readonly isResumed: boolean;
  /** Whether the target opens what the source sealed. */
  readonly hasSameKeys: boolean;
  /** Modification time of bands that are sealed anew. */
  readonly sessionMs: number;
  /** Salts of bands on the target's damaged list: their files are proven before they are linked. */
  readonly listed: ReadonlySet<string>;
  /** Where to look for bands that other volumes of the target's key domain hold; undefined: the volume shares with none. */
  readonly shared: SharedBands | undefined;
  readonly pool: BandPool;
  readonly signal: AbortSignal | undefined;
  readonly onBands: (bands: number, readBytes: number) => void;
}

/** One page under way. */
interface PageCopy {
  readonly first: number;
  readonly from: readonly string[];
  readonly to: readonly string[];
  readonly wanted: PageEntries;
  /** The index page of the new session. */
  readonly entries: PageEntries;
}

/** What the index of the new session is to say of a band, undefined for zeros; and whether its file was there already. */
interface BroughtBand {
  readonly band: StoredBand | undefined;
  readonly isLinked: boolean;
}

export class BandCopy {
  readonly counts: CopyCounts = { linkedBands: 0, copiedBands: 0, writtenBands: 0, writtenBytes: 0, resumedBands: 0, readBytes: 0 };
  readonly #input: BandCopyInput;
  readonly #sourceKeys: BandKeyMaterial;
  readonly #targetKeys: BandKeyMaterial;
  readonly #prover: BandProver;

  constructor(input: BandCopyInput) {
    this.#input = input;
    this.#sourceKeys = shareBandKeys(input.source.context);
    this.#targetKeys = shareBandKeys(input.incoming.context);
    this.#prover = new BandProver(input.pool, this.#targetKeys);
  }

  /** Brings the bands of a page over. @returns its entries in the target @throws TimebandError BAND_*, RECORD_*, NO_SPACE, INTERRUPTED */
  async copyPage(pageNumber: number): Promise<PageEntries> {
    const { source, neighbours, incoming, pool, hasSameKeys, isResumed } = this.#input;
    const count = entriesInPage(pageNumber, source.bandCount);
    const first = pageNumber * ENTRIES_PER_PAGE;
    const [from, to] = [source.bandPaths(first, count), incoming.bandPaths(first, count)];
    const page: PageCopy = { first, from, to, wanted: await source.readPage(pageNumber), entries: new Uint8Array(count * ENTRY_BYTES) };
    let left = Array.from({ length: count }, (_, i) => i).filter((i) => !isZeroEntry(page.wanted, i));
    for (const neighbour of neighbours) {
      const { entries, isShared } = await neighbourPage(neighbour, pageNumber, hasSameKeys);
      const files = neighbour.session.bandPaths(first, count);
      const candidates = left.filter((i) => isShared(page.wanted, i));
      const shared = await this.#linkable(candidates, { entries, files });
      if (isResumed) for (const i of shared) removeFileSync(to[i] ?? '');
      const missing = new Set(await linkBands(pool, { from: files, to, wanted: shared }, this.counts));
      const linked = new Set(shared.filter((i) => !missing.has(i)));
      for (const i of linked) writeEntry(page.entries, i, readEntry(entries, i));
      left = left.filter((i) => !linked.has(i));
    }
    this.#input.onBands(count - left.length, 0);
    await forEachBounded(sortedByName(to, left), pool.capacity, (i) => this.#bring(page, i));
    return page.entries;
  }

  /** Those whose file is not known to be damaged: no session is built on that, as long as the source has it whole. */
  async #linkable(candidates: readonly number[], at: { readonly entries: PageEntries; readonly files: readonly string[] }): Promise<number[]> {
    const linkable: number[] = [];
    for (const i of candidates) {
      const band = readEntry(at.entries, i);
      const isListed = band !== undefined && this.#input.listed.has(saltName(band.salt));
      if (!isListed || (await this.#prover.isWhole({ file: at.files[i] ?? '', band }))) linkable.push(i);
    }
    return linkable;
  }

  async #bring(page: PageCopy, i: number): Promise<void> {
    const { source, signal } = this.#input;
    if (signal?.aborted === true) throw interruptedCopy();
    const [file, to, band] = [page.from[i] ?? '', page.to[i] ?? '', readEntry(page.wanted, i)];
    if (band === undefined) return;
    try {
      const stored = (await this.#adopt(to, band)) ?? (await this.#copy({ keys: this.#sourceKeys, file, band }, to));
      writeEntry(page.entries, i, stored.band);
      if (stored.isLinked) this.counts.linkedBands++;
      if (stored.isLinked || stored.band === undefined) return; // zeros that were stored as data: the target says so in its index
      this.counts.writtenBands++;
      this.counts.writtenBytes += stored.band.fileBytes;
    } catch (error) {
      throw inBand(error, source, page.first + i);
    }
  }

  /** The band file of an earlier run, if it is whole and what is wanted; else there is none any more. */
  async #adopt(file: string, band: StoredBand): Promise<BroughtBand | undefined> {
    const { isResumed, hasSameKeys, pool, onBands } = this.#input;
    if (!isResumed) return undefined;
    const found = await pool.run('adoptBand', { keys: this.#targetKeys, file, digest: band.digest });
    if (found === undefined || (hasSameKeys && !(equalBytes(found.salt, band.salt) && found.fileBytes === band.fileBytes))) {
      removeFileSync(file);
      return undefined;
    }
    this.counts.resumedBands++;
    onBands(1, 0);
    return { band: hasSameKeys ? band : found, isLinked: false };
  }

  async #copy(from: BandFileTask, to: string): Promise<BroughtBand> {
    const { hasSameKeys, onBands } = this.#input;
    const brought = hasSameKeys ? await this.#copyAsItIs(from, to) : await this.#sealAnew(from, to);
    const readBytes = hasSameKeys && brought.isLinked ? 0 : from.band.fileBytes;
    this.counts.readBytes += readBytes;
    onBands(1, readBytes);
    return brought;
  }

  async #copyAsItIs(from: BandFileTask, to: string): Promise<BroughtBand> {
    const { pool, shared } = this.#input;
    const { band } = from;
    const isLinked = (await shared?.take(band, { file: to, keys: this.#targetKeys }, pool)) !== undefined;
    if (!isLinked) await pool.run('copyBand', { ...from, to });
    return { band, isLinked };
  }

  async #sealAnew(from: BandFileTask, to: string): Promise<BroughtBand> {
    const { pool, sessionMs, shared } = this.#input;
    const task = {
      keys: this.#targetKeys,
      input: { sealed: from },
      baseFingerprint: undefined,
      file: to,
      mayExist: false,
      mtimeSeconds: sessionMs / 1000,
    };
    const result = await pool.run('storeBand', { ...task, known: shared?.filter });
    if (result.status !== 'known') return { band: result.status === 'stored' ? result.band : undefined, isLinked: false };
    const band = await shared?.take(result, { file: to, keys: this.#targetKeys }, pool);
    if (band !== undefined) return { band, isLinked: true };
    const stored = await pool.run('storeBand', task);
    return { band: stored.status === 'stored' ? stored.band : undefined, isLinked: false };
  }
}

/** Whether something stored is missing, is not what it should be, or cannot be read from its disk. */
export function isDamage(error: unknown): error is TimebandError {
  if (!(error instanceof TimebandError)) return false;
  return /^(RECORD|BAND)_/.test(error.code) || (error.code === 'IO_ERROR' && errnoOf(error.cause) === 'EIO');
}

/** Says of damage which band it is. */
function inBand(error: unknown, { sessionId, manifest }: SessionDirectory, bandIndex: number): unknown {
  if (!isDamage(error)) return error;
  const offset = bandIndex * manifest.bandBytes;
  const end = offset + bandLengthOf(bandIndex, manifest.sizeBytes, manifest.bandBytes) - 1;
  const { code, cause, path } = error;
  return new TimebandError(`band ${bandIndex} (bytes ${offset}-${end}) of session ${sessionId}: ${error.message}`, {
    code,
    cause,
    ...(path === undefined ? {} : { path }),
  });
}

/** What an aborted copy throws. */
export function interruptedCopy(): TimebandError {
  return new TimebandError('interrupted; the session under way was not committed. Run the same command again to go on with it.', {
    code: 'INTERRUPTED',
  });
}
