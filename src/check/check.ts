/**
 * Verifying sessions with the key: every record opens and is in its place, every band file that the index names is
 * there, of its length, with its checksum and its seal; with data, decodes to its digest. Goes on after damage.
 * A band file that sessions share is read once; its damage is reported for each of them. A session that is found whole
 * with all its bands gets that written into its labels; bands that are whole again are taken off the damaged list.
 */
import { lstatSync } from 'node:fs';
import path from 'node:path';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import type { Bitmap } from '../../bands/format/bitmap.ts';
import { equalBytes, toHex } from '../../bands/format/bytes.ts';
import type { DamagedBand } from '../../bands/format/damaged-list.ts';
import { type ByteRange, ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { entryCount, isSameContent, type PageEntries, readEntry, type StoredBand } from '../../bands/format/index-page.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import type { BandKeyMaterial } from '../../bands/workers/tasks.ts';
import type { Catalog } from '../catalog.ts';
import { bandRange, pageRange } from '../damage-log.ts';
import { saltName } from '../damaged-bands.ts';
import { changeLabels } from '../labels.ts';
import { isUnwritable, Lease } from '../leases.ts';
import type { OnProgress } from '../progress.ts';
import { reviewDamagedList } from '../repair/review-list.ts';
import type { Repository } from '../repository.ts';
import { findRollback } from '../sync/rollback.ts';
import type { Volume } from '../volume.ts';
import { checkSlots } from './check-slots.ts';
import { type CheckResult, type Finding, finding } from './findings.ts';
import { byUrgency, type Candidate, isInSubset, type Subset } from './scope.ts';

export interface CheckOptions {
  readonly pool: BandPool;
  /** Only this volume. */
  readonly volume?: string | undefined;
  /** Only this session of it; as `Volume.resolve` takes it. */
  readonly session?: string | undefined;
  /** Decode every band and compare its digest. */
  readonly withData?: boolean;
  /** Only these band files; all records all the same. */
  readonly subset?: Subset | undefined;
  /** Only the newest session of each volume. */
  readonly isNewestOnly?: boolean;
  /** Stop after that time; sessions that were checked longest ago, or never, come first. */
  readonly maxDurationMs?: number | undefined;
  readonly catalog?: Catalog | undefined;
  /** Told of each damaged band, once for each session that has it. */
  readonly onDamagedBand?: ((band: FoundDamage) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

export interface FoundDamage extends DamagedBand {
  readonly volume: Volume;
  readonly finding: Finding;
}

/** @throws TimebandError VOLUME_NOT_FOUND, SESSION_NOT_FOUND, INTERRUPTED; damage is a finding, not an error */
export async function checkRepository(repository: Repository, options: CheckOptions): Promise<CheckResult> {
  const { volumes, damaged } =
    options.volume === undefined ? await repository.listVolumes() : { volumes: [await repository.volume(options.volume)], damaged: [] };
  const run = new CheckRun(repository, options);
  if (options.volume === undefined) run.findings.push(...(await checkSlots(repository.layout.keys, repository.configDigest)));
  for (const { id, error } of damaged) run.findings.push(finding({ volume: id }, error));
  const planned: PlannedSession[] = [];
  for (const volume of volumes) {
    await run.reviewList(volume);
    planned.push(...(await run.plan(volume)));
  }
  await run.checkAll(options.maxDurationMs === undefined ? planned : byUrgency(planned, options.withData ?? false));
  return run.result(planned.length);
}

/** What is known of a file from another session that expects the same of it: its damage, or undefined. */
type Verdict = TimebandError | undefined;

interface PlannedSession extends Candidate {
  readonly volume: Volume;
  /** All sessions of the volume that are checked. */
  readonly siblings: ReadonlySet<string>;
}

interface OpenedSession {
  readonly session: SessionDirectory;
  readonly lease: Lease;
}

class CheckRun {
  readonly findings: Finding[] = [];
  readonly #repository: Repository;
  readonly #options: CheckOptions;
  readonly #startedAt = performance.now();
  readonly #verified: { readonly volume: string; readonly session: string }[] = [];
  readonly #warnings: string[] = [];
  /** Volumes whose labels could not be changed. */
  readonly #unrecorded = new Set<string>();
  /** By inode and the salt that the index expects: a file in a wrong place is damage there, and right in its own. */
  readonly #verdicts = new Map<string, Verdict>();
  /** Salts of bands that are on a damaged list: these are read whatever part is asked for. */
  readonly #listed = new Set<string>();
  #clearedBands = 0;
  #sessions = 0;
  #finishedSessions = 0;
  #bandFiles = 0;
  #skippedFiles = 0;
  #readBytes = 0;
  #isOutOfTime = false;
  /** The session checked last, mostly the base of the next one. */
  #previous: SessionDirectory | undefined;
  #doneBands = 0;
  #totalBands = 0;
  #totalBytes = 0;

  constructor(repository: Repository, options: CheckOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  result(plannedSessions: number): CheckResult {
    return {
      sessions: this.#sessions,
      plannedSessions,
      finishedSessions: this.#finishedSessions,
      bandFiles: this.#bandFiles,
      skippedFiles: this.#skippedFiles,
      readBytes: this.#readBytes,
      isOutOfTime: this.#isOutOfTime,
      verified: this.#verified,
      clearedBands: this.#clearedBands,
      warnings: this.#warnings,
      findings: this.findings,
      durationMs: Math.round(performance.now() - this.#startedAt),
    };
  }

  /** Takes off the damaged list what is whole again, and remembers the rest. */
  async reviewList(volume: Volume): Promise<void> {
    try {
      const { remaining, cleared, warnings } = await reviewDamagedList(this.#repository, volume, this.#options.pool);
      for (const { salt } of remaining) this.#listed.add(saltName(salt));
      this.#clearedBands += cleared;
      this.#warnings.push(...warnings);
    } catch (error) {
      this.findings.push(finding({ volume: volume.name }, error));
    }
  }

  /** The sessions of a volume that are to be checked, oldest first. */
  async plan(volume: Volume): Promise<PlannedSession[]> {
    const ids = this.#options.session === undefined ? await this.#sessionIds(volume) : [await volume.resolve(this.#options.session)];
    if (ids === undefined) return [];
    if (this.#options.session === undefined) await this.#checkNewest(volume, ids.at(-1));
    const chosen = this.#options.isNewestOnly === true ? ids.slice(-1) : ids;
    const siblings = new Set(chosen);
    const planned: PlannedSession[] = [];
    for (const sessionId of chosen) {
      const session = await openIfWhole(volume, sessionId); // what is wrong with it, is found when its turn comes
      this.#totalBands += session?.bandCount ?? 0;
      this.#totalBytes += session?.manifest.totals.writtenBytes ?? 0;
      const labels = await session?.readLabels().catch(() => undefined);
      planned.push({ volume, sessionId, siblings, verified: labels?.verified });
    }
    return planned;
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

  async checkAll(planned: readonly PlannedSession[]): Promise<void> {
    for (const one of planned) {
      if (!this.#hasTime()) return;
      const opened = await this.#open(one);
      if (opened === undefined) continue;
      try {
        await this.#checkOpened(one, opened.session);
      } finally {
        await opened.lease.release();
      }
    }
  }

  #hasTime(): boolean {
    const { maxDurationMs } = this.#options;
    this.#isOutOfTime ||= maxDurationMs !== undefined && performance.now() - this.#startedAt >= maxDurationMs;
    return !this.#isOutOfTime;
  }

  /** Opens a session, which nobody deletes until the lease is given back. One that is just being deleted is passed over. */
  async #open({ volume, sessionId }: PlannedSession): Promise<OpenedSession | undefined> {
    let lease: Lease | undefined;
    try {
      lease = await this.#lease(volume, sessionId);
      const session = await volume.openSession(sessionId);
      this.#sessions++;
      return { session, lease };
    } catch (error) {
      await lease?.release();
      if (error instanceof TimebandError && error.code === 'LOCKED') return undefined;
      if (!(await volume.sessionIds()).includes(sessionId)) return undefined;
      this.#sessions++;
      this.#finishedSessions++;
      this.findings.push(finding({ volume: volume.name, session: sessionId }, error));
      return undefined;
    }
  }

  async #lease(volume: Volume, sessionId: string): Promise<Lease> {
    const { locks } = this.#repository.layout;
    return await Lease.take({ locks, volume: volume.name, volumeId: volume.id, sessionId, command: 'check' });
  }

  async #checkOpened({ volume, siblings }: PlannedSession, session: SessionDirectory): Promise<void> {
    const findingsBefore = this.findings.length;
    await this.#checkSession(volume, session, await this.#baseOf(volume, session, siblings));
    this.#previous = session;
    if (this.#isOutOfTime) return;
    this.#finishedSessions++;
    if (this.#options.subset === undefined && this.findings.length === findingsBefore) await this.#recordVerified(volume, session.sessionId);
  }

  /** Its base, if that is checked, too. */
  async #baseOf(volume: Volume, { manifest }: SessionDirectory, siblings: ReadonlySet<string>): Promise<SessionDirectory | undefined> {
    const id = manifest.base?.sessionId;
    if (id === undefined || !siblings.has(id)) return undefined;
    const isPrevious = this.#previous?.sessionId === id && this.#previous.context === volume.context;
    return isPrevious ? this.#previous : await openIfWhole(volume, id);
  }

  /** A repository that cannot be written to is checked all the same; anything else that keeps the note from being made is told once. */
  async #recordVerified(volume: Volume, sessionId: string): Promise<void> {
    if (this.#unrecorded.has(volume.id)) return;
    const verified = { atMs: Date.now(), withData: this.#options.withData ?? false };
    try {
      await changeLabels(this.#repository, { volume, sessionId }, (labels) => ({ ...labels, verified }));
      this.#verified.push({ volume: volume.name, session: sessionId });
    } catch (error) {
      this.#unrecorded.add(volume.id); // or each session would wait for the same lock
      if (isUnwritable(error)) return;
      if (!(error instanceof TimebandError)) throw error;
      this.#warnings.push(`that ${volume.name}@${sessionId} and later ones are whole, could not be recorded: ${error.message}`);
    }
  }

  async #checkNewest(volume: Volume, id: string | undefined): Promise<void> {
    const newest = id === undefined ? undefined : { sessionId: id, manifestDigest: (await openIfWhole(volume, id))?.manifestDigest };
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
    for (let page = 0; page < session.pageCount && !this.#isOutOfTime; page++) {
      const entries = await attempt(() => session.readPageFile(page), pageRange(session, page));
      if (entries === undefined) continue;
      await this.#checkBands(where, session, { volume, page, entries, keys });
      if (bitmap !== undefined) await attempt(() => checkBitmap({ session, base, bitmap }, page, entries));
    }
  }

  async #checkBands(
    where: { readonly volume: string; readonly session: string },
    session: SessionDirectory,
    part: { readonly volume: Volume; readonly page: number; readonly entries: PageEntries; readonly keys: BandKeyMaterial },
  ): Promise<void> {
    const first = part.page * ENTRIES_PER_PAGE;
    const files = session.bandPaths(first, entryCount(part.entries));
    await forEachBounded(files.entries(), this.#options.pool.capacity, async ([i, file]) => {
      if (this.#options.signal?.aborted === true) throw new TimebandError('interrupted; the check is incomplete.', { code: 'INTERRUPTED' });
      if (!this.#hasTime()) return;
      const band = readEntry(part.entries, i);
      const error = band === undefined ? undefined : await this.#checkBand(file, band, part.keys);
      if (band !== undefined && error !== undefined) {
        const found = finding(where, error, bandRange(session, first + i));
        this.findings.push(found);
        this.#options.onDamagedBand?.({ volume: part.volume, bandIndex: first + i, salt: band.salt.slice(), finding: found });
      }
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
    const isListed = this.#listed.has(saltName(band.salt));
    if (!isListed && !isInSubset(this.#options.subset, path.basename(file))) {
      this.#skippedFiles++;
      return undefined;
    }
    this.#bandFiles++;
    this.#readBytes += band.fileBytes;
    try {
      await this.#options.pool.run('checkBand', { keys, file, band, withData: isListed || (this.#options.withData ?? false) });
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
      doneBytes: this.#readBytes,
      totalBytes: this.#totalBytes,
    });
  }
}

/** Undefined if it cannot be opened. */
async function openIfWhole(volume: Volume, sessionId: string | undefined): Promise<SessionDirectory | undefined> {
  return sessionId === undefined ? undefined : await volume.openSession(sessionId).catch(() => undefined);
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
