/**
 * Bringing a file or device that exists to a session by writing only what differs. Each band of the target is read and
 * its fingerprint compared with the index; only where that differs is the band decoded, and only its blocks that differ
 * are written. So nothing unverified is ever written, and a run that was cut short is finished by running it again.
 */
import { ioError, TimebandError } from '../bands/errors.ts';
import { Bitmap } from '../bands/format/bitmap.ts';
import { equalBytes } from '../bands/format/bytes.ts';
import type { DamagedBand } from '../bands/format/damaged-list.ts';
import { type ByteRange, ENTRIES_PER_PAGE, entriesInPage } from '../bands/format/geometry.ts';
import { entryCount, isSameContent, type PageEntries, readEntry } from '../bands/format/index-page.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../bands/workers/band-pool.ts';
import { forEachBounded } from '../bands/workers/bounded.ts';
import type { BandKeyMaterial, UpdateBandTask } from '../bands/workers/tasks.ts';
import { bandRange, DamageLog, pageRange } from './damage-log.ts';
import { requireListedWhole } from './damaged-bands.ts';
import type { OnProgress } from './progress.ts';
import { checkRestorable, interruptedRestore, type RestoreResult } from './restore.ts';
import { openExistingTarget, refuseOwnRepository, type Target } from './restore-target.ts';
import { SourceFile } from './sources/source-file.ts';

export interface InPlaceOptions {
  readonly session: SessionDirectory;
  /** A file or block device that exists. */
  readonly target: string;
  readonly pool: BandPool;
  /**
   * The session of the same volume that the target is at, restored from it and unchanged since: only bands that differ between
   * the two are looked at. That is the caller's word: what is not so stays as it is.
   */
  readonly knownAt?: SessionDirectory | undefined;
  /** Go on after damage; damaged ranges are left as they were and listed. */
  readonly isKeepGoing?: boolean;
  /** The volume's damaged list: what is on it is looked at before anything is written. */
  readonly listed?: readonly DamagedBand[];
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

export interface InPlaceResult extends RestoreResult {
  /** Bytes of the target that were read and compared. */
  readonly comparedBytes: number;
}

/**
 * Brings a file or device to a session.
 * @throws TimebandError TARGET_INVALID, BAND_CORRUPT (lists the ranges found so far), NO_SPACE, INTERRUPTED
 */
export async function restoreInPlace(options: InPlaceOptions): Promise<InPlaceResult> {
  const startedAt = performance.now();
  const { session, knownAt } = options;
  if (knownAt !== undefined && !equalBytes(knownAt.context.volumeId, session.context.volumeId)) throw new TypeError('knownAt: of another volume');
  await refuseOwnRepository(options);
  const target = await openExistingTarget(options);
  const run = new InPlaceRun(options, target);
  try {
    checkSize(options, target);
    await run.plan();
    await growFile(target, session.manifest.sizeBytes);
    await run.updateAll();
    run.damage.throwIfStopped(`What is damaged was left as it was; ${target.path} is partly at this session now`);
    await target.finish();
  } catch (error) {
    await target.abandon();
    throw error;
  }
  return {
    session: session.sessionId,
    target: target.path,
    sizeBytes: session.manifest.sizeBytes,
    comparedBytes: run.comparedBytes,
    writtenBytes: run.writtenBytes,
    behindBytes: target.behindBytes,
    damaged: run.damage.ranges(),
    durationMs: Math.round(performance.now() - startedAt),
  };
}

/**
 * A file that is at a session has its size; or that of the other one, if an earlier run was cut short.
 * @throws TimebandError TARGET_INVALID
 */
function checkSize({ session, knownAt }: InPlaceOptions, target: Target): void {
  if (knownAt === undefined) return;
  const sizes = [knownAt.manifest.sizeBytes, session.manifest.sizeBytes];
  if (target.isDevice ? target.sizeBytes >= Math.max(...sizes) : sizes.includes(target.sizeBytes)) return;
  throw new TimebandError(
    `${target.path} has ${target.sizeBytes} bytes, session ${knownAt.sessionId} has ${sizes[0]}: it is not at that session. Nothing was written; leave --at out to compare all of it.`,
    { code: 'TARGET_INVALID', path: target.path },
  );
}

/** A file that is too short reads as zeros there from now on. */
async function growFile({ path, handle, isDevice, sizeBytes }: Target, toBytes: number): Promise<void> {
  if (isDevice || sizeBytes >= toBytes) return;
  try {
    await handle.truncate(toBytes);
  } catch (error) {
    throw ioError(error, 'make larger', path);
  }
}

class InPlaceRun {
  comparedBytes = 0;
  writtenBytes = 0;
  /** What the target holds in a damaged range may well be right, so it stays. */
  readonly damage: DamageLog;
  readonly #options: InPlaceOptions;
  readonly #target: Target;
  readonly #keys: BandKeyMaterial;
  readonly #planned: Bitmap;
  #doneBands = 0;
  #totalBands = 0;
  #totalBytes = 0;

  constructor(options: InPlaceOptions, target: Target) {
    this.#options = options;
    this.#target = target;
    this.#keys = shareBandKeys(options.session.context);
    this.#planned = new Bitmap(options.session.bandCount);
    this.damage = new DamageLog({ session: options.session, target: target.path, isKeepGoing: options.isKeepGoing ?? false });
  }

  /** Notes what is to be looked at. Unless damage is to be passed over, what can be known of it before the first write, is. */
  async plan(): Promise<void> {
    const { session, isKeepGoing, listed = [], pool } = this.#options;
    for (let page = 0; page < session.pageCount; page++) {
      for (const bandIndex of await this.#bandsToCompare(page)) {
        this.#planned.set(bandIndex);
        this.#totalBands++;
        this.#totalBytes += bandRange(session, bandIndex).length;
      }
    }
    if (isKeepGoing === true) return;
    const isConcerned = (bandIndex: number): boolean => this.#planned.has(bandIndex);
    await requireListedWhole(session, listed, { pool, target: this.#target.path, isConcerned });
    await checkRestorable(session, isConcerned);
  }

  /** All bands of a page, or those that the target's session does not have with the same content. */
  async #bandsToCompare(page: number): Promise<number[]> {
    const { session, knownAt } = this.#options;
    const first = page * ENTRIES_PER_PAGE;
    const all = Array.from({ length: entriesInPage(page, session.bandCount) }, (_, i) => first + i);
    if (knownAt === undefined) return all;
    const entries = await session.readPage(page).catch(() => undefined); // damaged: checkRestorable or the update reports it
    const known = page < knownAt.pageCount ? await knownAt.readPage(page).catch(() => undefined) : new Uint8Array(0);
    if (entries === undefined || known === undefined) return all; // what the target holds there is not known
    // What lies behind that session's end in the target, nobody promised: a device may hold anything there.
    return all.filter(
      (bandIndex) => endOf(bandRange(session, bandIndex)) > knownAt.manifest.sizeBytes || !isSameContent(known, entries, bandIndex - first),
    );
  }

  async updateAll(): Promise<void> {
    const { handle, path } = this.#target;
    await using reader = await SourceFile.open(`/proc/self/fd/${handle.fd}`); // the very file that is open, whatever has its name by now
    const fds = { targetFd: handle.fd, targetDirectFd: reader.directFd, targetPath: path };
    await forEachBounded(this.#tasks(fds), this.#options.pool.capacity, (task) => this.#update(task));
    this.#report();
  }

  /** Stops early once damage ends the restore. */
  async *#tasks(fds: Pick<UpdateBandTask, 'targetFd' | 'targetDirectFd' | 'targetPath'>): AsyncGenerator<UpdateBandTask> {
    const { session, signal } = this.#options;
    for (let page = 0; page < session.pageCount; page++) {
      const entries = await this.#readPage(page);
      if (entries === undefined) continue;
      const first = page * ENTRIES_PER_PAGE;
      for (const [i, file] of session.bandPaths(first, entryCount(entries)).entries()) {
        if (!this.#planned.has(first + i)) continue;
        if (signal?.aborted === true) throw interruptedRestore(this.#target);
        if (this.damage.mustStop) return;
        yield { ...fds, keys: this.#keys, file, band: readEntry(entries, i), ...bandRange(session, first + i) };
      }
    }
  }

  async #readPage(page: number): Promise<PageEntries | undefined> {
    const { session } = this.#options;
    try {
      return await session.readPage(page);
    } catch (error) {
      this.damage.take(pageRange(session, page), error);
      return undefined;
    }
  }

  async #update(task: UpdateBandTask): Promise<void> {
    try {
      const { writtenBytes } = await this.#options.pool.run('updateBand', task);
      this.writtenBytes += writtenBytes;
    } catch (error) {
      this.damage.take({ offset: task.offset, length: task.length }, error);
    }
    this.comparedBytes += task.length;
    this.#doneBands++;
    this.#report();
  }

  #report(): void {
    this.#options.onProgress?.({
      phase: 'restore',
      doneBands: this.#doneBands,
      totalBands: this.#totalBands,
      doneBytes: this.comparedBytes,
      totalBytes: this.#totalBytes,
    });
  }
}

function endOf({ offset, length }: ByteRange): number {
  return offset + length;
}
