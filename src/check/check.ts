/**
 * Verifying sessions with the key: every record opens and is in its place, every band file that the index names is
 * there, of its length, with its checksum and its seal; with data, decodes to its digest. Goes on after damage.
 * A band file that sessions share is read once; its damage is reported for each of them.
 */
import { lstatSync } from 'node:fs';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import type { Bitmap } from '../../bands/format/bitmap.ts';
import { equalBytes, toHex } from '../../bands/format/bytes.ts';
import { type ByteRange, bandLengthOf, ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { entryCount, isSameContent, type PageEntries, readEntry, type StoredBand } from '../../bands/format/index-page.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import type { BandKeyMaterial } from '../../bands/workers/tasks.ts';
import type { Catalog } from '../catalog.ts';
import { Lease } from '../leases.ts';
import type { OnProgress } from '../progress.ts';
import type { Repository } from '../repository.ts';
import { findRollback } from '../sync/rollback.ts';
import type { Volume } from '../volume.ts';
import { type CheckResult, type Finding, finding } from './findings.ts';

export interface CheckOptions {
  readonly pool: BandPool;
  /** Only this volume. */
  readonly volume?: string | undefined;
  /** Only this session of it; as `Volume.resolve` takes it. */
  readonly session?: string | undefined;
  /** Decode every band and compare its digest. */
  readonly withData?: boolean;
  readonly catalog?: Catalog | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

/** @throws TimebandError VOLUME_NOT_FOUND, SESSION_NOT_FOUND, INTERRUPTED; damage is a finding, not an error */
export async function checkRepository(repository: Repository, options: CheckOptions): Promise<CheckResult> {
  const startedAt = performance.now();
  const { volumes, damaged } =
    options.volume === undefined ? await repository.listVolumes() : { volumes: [await repository.volume(options.volume)], damaged: [] };
  const run = new CheckRun(repository, options);
  for (const { id, error } of damaged) run.findings.push(finding({ volume: id }, error));
  for (const volume of volumes) await run.checkVolume(volume);
  return {
    sessions: run.sessions,
    bandFiles: run.bandFiles,
    readBytes: run.readBytes,
    findings: run.findings,
    durationMs: Math.round(performance.now() - startedAt),
  };
}

/** What is known of a file from another session that expects the same of it: its damage, or undefined. */
type Verdict = TimebandError | undefined;

class CheckRun {
  readonly findings: Finding[] = [];
  sessions = 0;
  bandFiles = 0;
  readBytes = 0;
  readonly #repository: Repository;
  readonly #options: CheckOptions;
  /** By inode and the salt that the index expects: a file in a wrong place is damage there, and right in its own. */
  readonly #verdicts = new Map<string, Verdict>();
  #doneBands = 0;
  #totalBands = 0;
  #totalBytes = 0;

  constructor(repository: Repository, options: CheckOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async checkVolume(volume: Volume): Promise<void> {
    const ids = this.#options.session === undefined ? await this.#sessionIds(volume) : [await volume.resolve(this.#options.session)];
    if (ids === undefined) return;
    const leases: Lease[] = [];
    try {
      await this.#checkSessions(volume, await this.#openAll(volume, ids, leases), ids);
    } finally {
      for (const lease of leases) await lease.release();
    }
  }

  async #checkSessions(volume: Volume, opened: ReadonlyMap<string, SessionDirectory>, ids: readonly string[]): Promise<void> {
    if (this.#options.session === undefined) await this.#checkNewest(volume, opened.get(ids.at(-1) ?? ''));
    for (const session of opened.values()) {
      this.#totalBands += session.bandCount;
      this.#totalBytes += session.manifest.totals.writtenBytes;
    }
    for (const session of opened.values()) await this.#checkSession(volume, session, opened.get(session.manifest.base?.sessionId ?? ''));
  }

  /** Undefined, and a finding, if the folder of the sessions is damaged itself. */
  async #sessionIds(volume: Volume): Promise<string[] | undefined> {
    try {
      return await volume.sessionIds();
    } catch (error) {
      this.findings.push(finding({ volume: volume.name }, error));
      return undefined;
    }
  }

  /** Opens them; nobody deletes one until `leases` are given back. One that is just being deleted is passed over. */
  async #openAll(volume: Volume, ids: readonly string[], leases: Lease[]): Promise<Map<string, SessionDirectory>> {
    const opened = new Map<string, SessionDirectory>();
    for (const id of ids) {
      try {
        leases.push(await this.#lease(volume, id));
        opened.set(id, await volume.openSession(id));
        this.sessions++;
      } catch (error) {
        if (error instanceof TimebandError && error.code === 'LOCKED') continue;
        if (!(await volume.sessionIds()).includes(id)) continue;
        this.sessions++;
        this.findings.push(finding({ volume: volume.name, session: id }, error));
      }
    }
    return opened;
  }

  async #lease(volume: Volume, sessionId: string): Promise<Lease> {
    const { locks } = this.#repository.layout;
    return await Lease.take({ locks, volume: volume.name, volumeId: volume.id, sessionId, command: `check ${volume.name}` });
  }

  async #checkNewest(volume: Volume, newest: SessionDirectory | undefined): Promise<void> {
    const problem = await findRollback({ catalog: this.#options.catalog, volume, newest });
    if (problem !== undefined) this.findings.push(finding({ volume: volume.name }, new TimebandError(`${problem}.`, { code: 'ROLLBACK_DETECTED' })));
  }

  async #checkSession(volume: Volume, session: SessionDirectory, base: SessionDirectory | undefined): Promise<void> {
    const where = { volume: volume.name, session: session.sessionId };
    const attempt = async <T>(read: () => Promise<T>, range?: ByteRange): Promise<T | undefined> => {
      try {
        return await read();
      } catch (error) {
        if (error instanceof TimebandError && error.code === 'INTERRUPTED') throw error;
        this.findings.push(finding(where, error, range));
        return undefined;
      }
    };
    await attempt(() => session.readLabels());
    const bitmap = await attempt(() => session.readBitmap());
    if (base !== undefined && !equalBytes(session.manifest.base?.manifestDigest ?? base.manifestDigest, base.manifestDigest)) {
      this.findings.push(
        finding(
          where,
          new TimebandError(`its base ${base.sessionId} is not the session that it was made from (another manifest)`, { code: 'RECORD_CORRUPT' }),
        ),
      );
    }
    const keys = shareBandKeys(session.context);
    for (let page = 0; page < session.pageCount; page++) {
      const entries = await attempt(() => session.readPageFile(page), pageRange(session, page));
      if (entries === undefined) continue;
      await this.#checkBands(where, session, { page, entries, keys });
      if (bitmap !== undefined) await attempt(() => checkBitmap({ session, base, bitmap }, page, entries));
    }
  }

  async #checkBands(
    where: { readonly volume: string; readonly session: string },
    session: SessionDirectory,
    part: { readonly page: number; readonly entries: PageEntries; readonly keys: BandKeyMaterial },
  ): Promise<void> {
    const first = part.page * ENTRIES_PER_PAGE;
    const files = session.bandPaths(first, entryCount(part.entries));
    await forEachBounded(files.entries(), this.#options.pool.capacity, async ([i, file]) => {
      if (this.#options.signal?.aborted === true) throw new TimebandError('interrupted; the check is incomplete.', { code: 'INTERRUPTED' });
      const band = readEntry(part.entries, i);
      const error = band === undefined ? undefined : await this.#checkBand(file, band, part.keys);
      if (error !== undefined) this.findings.push(finding(where, error, bandRange(session, first + i)));
      this.#doneBands++;
      this.#report();
    });
  }

  /** The damage of a band file, or undefined. */
  async #checkBand(file: string, band: StoredBand, keys: BandKeyMaterial): Promise<TimebandError | undefined> {
    const inode = inodeOf(file);
    if (inode instanceof TimebandError) return inode;
    const key = `${inode} ${toHex(band.salt)}`;
    if (this.#verdicts.has(key)) return this.#verdicts.get(key);
    this.#verdicts.set(key, undefined); // before waiting, so that a session beside this one does not read it again
    this.bandFiles++;
    this.readBytes += band.fileBytes;
    try {
      await this.#options.pool.run('checkBand', { keys, file, band, withData: this.#options.withData ?? false });
      return undefined;
    } catch (error) {
      if (!(error instanceof TimebandError)) throw error;
      this.#verdicts.set(key, error);
      return error;
    }
  }

  #report(): void {
    this.#options.onProgress?.({
      phase: 'check',
      doneBands: this.#doneBands,
      totalBands: this.#totalBands,
      doneBytes: this.readBytes,
      totalBytes: this.#totalBytes,
    });
  }
}

/** Device and inode number of a file. */
function inodeOf(file: string): string | TimebandError {
  try {
    const { dev, ino } = lstatSync(file, { bigint: true });
    return `${dev}:${ino}`;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT')
      return new TimebandError(`${file}: the band file is missing`, { code: 'BAND_MISSING', cause: error, path: file });
    return ioError(error, 'look at', file);
  }
}

function bandRange(session: SessionDirectory, bandIndex: number): ByteRange {
  const { bandBytes } = session.context;
  return { offset: bandIndex * bandBytes, length: bandLengthOf(bandIndex, session.manifest.sizeBytes, bandBytes) };
}

function pageRange(session: SessionDirectory, page: number): ByteRange {
  const pageBytes = ENTRIES_PER_PAGE * session.context.bandBytes;
  const offset = page * pageBytes;
  return { offset, length: Math.min(pageBytes, session.manifest.sizeBytes - offset) };
}

/** The bitmap must say exactly which bands differ from the base; where the base is gone, nothing can be said. */
async function checkBitmap(
  known: { readonly session: SessionDirectory; readonly base: SessionDirectory | undefined; readonly bitmap: Bitmap },
  page: number,
  entries: PageEntries,
): Promise<void> {
  const { session, base, bitmap } = known;
  if (base === undefined && session.manifest.base !== undefined) return;
  const baseEntries = base !== undefined && page < base.pageCount ? await base.readPage(page).catch(() => undefined) : new Uint8Array(0);
  if (baseEntries === undefined) return; // the base's own damage, which is reported there
  for (let i = 0; i < entryCount(entries); i++) {
    const bandIndex = page * ENTRIES_PER_PAGE + i;
    if (bitmap.has(bandIndex) === !isSameContent(baseEntries, entries, i)) continue;
    throw new TimebandError(`bitmap: band ${bandIndex} is ${bitmap.has(bandIndex) ? '' : 'not '}marked as changed, against the indexes`, {
      code: 'RECORD_CORRUPT',
    });
  }
}
