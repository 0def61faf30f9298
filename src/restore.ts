/**
 * Getting a session's bytes back: into a new file (sparse), over an existing file or device, or to a stream.
 * A new file appears under its name only when it is whole; a damaged band never turns into wrong bytes silently.
 */
import { ioError, TimebandError } from '../bands/errors.ts';
import type { DamagedBand } from '../bands/format/damaged-list.ts';
import { type ByteRange, ENTRIES_PER_PAGE } from '../bands/format/geometry.ts';
import { entryCount, readEntry } from '../bands/format/index-page.ts';
import { statIfPresent, writeFully } from '../bands/store/files.ts';
import { createCursor } from '../bands/store/image.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';
import { SessionImage } from '../bands/store/session-image.ts';
import { type BandPool, shareBandKeys } from '../bands/workers/band-pool.ts';
import { forEachBounded } from '../bands/workers/bounded.ts';
import type { BandKeyMaterial } from '../bands/workers/tasks.ts';
import { bandRange, type DamagedRange, DamageLog, isDamage, pageRange } from './damage-log.ts';
import { requireListedWhole } from './damaged-bands.ts';
import type { OnProgress } from './progress.ts';
import { openTarget, refuseOwnRepository, type Target } from './restore-target.ts';
import { interrupted } from './sync/page-sync.ts';

export interface RestoreOptions {
  readonly session: SessionDirectory;
  /** A file or block device. */
  readonly target: string;
  readonly pool: BandPool;
  /** Write over a target that exists. */
  readonly isOverwrite?: boolean;
  /** Restore all that can be read; damaged ranges become zeros and are listed. */
  readonly isKeepGoing?: boolean;
  /** The volume's damaged list: what is on it is looked at before anything is written. */
  readonly listed?: readonly DamagedBand[];
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

export interface RestoreResult {
  readonly session: string;
  readonly target: string;
  readonly sizeBytes: number;
  readonly writtenBytes: number;
  /** What a larger device has behind the session's end, which was left alone. */
  readonly behindBytes: number;
  readonly damaged: readonly DamagedRange[];
  readonly durationMs: number;
}

const BUFFER_BYTES = 1_048_576;

/**
 * Restores into a file or device.
 * @throws TimebandError TARGET_EXISTS, TARGET_INVALID, BAND_CORRUPT (lists the ranges found so far), NO_SPACE, INTERRUPTED
 */
export async function restoreSession(options: RestoreOptions): Promise<RestoreResult> {
  const startedAt = performance.now();
  await refuseOwnRepository(options);
  const target = await openTarget({ ...options, isOverwrite: options.isOverwrite ?? false });
  const run = new RestoreRun(options, target);
  try {
    if (options.isKeepGoing !== true) await requireListedWhole(options.session, options.listed ?? [], { pool: options.pool, target: target.path });
    if (!target.isNew && options.isKeepGoing !== true) await checkRestorable(options.session);
    await run.restoreAll();
    run.damage.throwIfStopped(target.isNew ? 'Nothing was kept' : `${target.path} is incomplete now`);
    await target.finish();
  } catch (error) {
    await target.abandon();
    throw error;
  }
  return {
    session: options.session.sessionId,
    target: target.path,
    sizeBytes: options.session.manifest.sizeBytes,
    writtenBytes: run.writtenBytes,
    behindBytes: target.behindBytes,
    damaged: run.damage.ranges(),
    durationMs: Math.round(performance.now() - startedAt),
  };
}

/**
 * Before an existing target is written over: is every index page whole, and every band file there with its length?
 * @param isConcerned which bands it is about; all of them unless given
 * @throws TimebandError as the first that is not; nothing was written then
 */
export async function checkRestorable(session: SessionDirectory, isConcerned: (bandIndex: number) => boolean = () => true): Promise<void> {
  for (let page = 0; page < session.pageCount; page++) {
    const entries = await session.readPage(page);
    for (const [i, file] of session.bandPaths(page * ENTRIES_PER_PAGE, entryCount(entries)).entries()) {
      const band = readEntry(entries, i);
      const isFine = band === undefined || !isConcerned(page * ENTRIES_PER_PAGE + i) || (await statIfPresent(file))?.size === band.fileBytes;
      if (isFine) continue;
      throw new TimebandError(
        `${file}: the band file is missing or of another length. Nothing was written; list all damage with "timeband check", restore the rest with --keep-going.`,
        {
          code: 'BAND_CORRUPT',
          path: file,
        },
      );
    }
  }
}

class RestoreRun {
  writtenBytes = 0;
  readonly damage: DamageLog;
  readonly #options: RestoreOptions;
  readonly #target: Target;
  readonly #keys: BandKeyMaterial;
  #doneBands = 0;
  #doneBytes = 0;

  constructor(options: RestoreOptions, target: Target) {
    this.#options = options;
    this.#target = target;
    this.#keys = shareBandKeys(options.session.context);
    this.damage = new DamageLog({ session: options.session, target: target.path, isKeepGoing: options.isKeepGoing ?? false });
  }

  async restoreAll(): Promise<void> {
    await forEachBounded(this.#bands(), this.#options.pool.capacity, (band) => this.#restoreBand(band.bandIndex, band.file, band.entry));
    this.#report();
  }

  /** The bands to write: in a new file the ones that are not zero. Stops early once damage ends the restore. */
  async *#bands(): AsyncGenerator<{ bandIndex: number; file: string; entry: ReturnType<typeof readEntry> }> {
    const { session } = this.#options;
    for (let page = 0; page < session.pageCount; page++) {
      const entries = await this.#readPage(page);
      if (entries === undefined) continue;
      const files = session.bandPaths(page * ENTRIES_PER_PAGE, entryCount(entries));
      for (const [i, file] of files.entries()) {
        if (this.#options.signal?.aborted === true) throw interruptedRestore(this.#target);
        if (this.damage.mustStop) return;
        const entry = readEntry(entries, i);
        if (entry === undefined && this.#target.isNew) this.#doneBands++;
        else yield { bandIndex: page * ENTRIES_PER_PAGE + i, file, entry };
      }
    }
  }

  async #readPage(page: number): Promise<Uint8Array | undefined> {
    const { session } = this.#options;
    try {
      return await session.readPage(page);
    } catch (error) {
      await this.#takeDamage(pageRange(session, page), error);
      return undefined;
    }
  }

  async #restoreBand(bandIndex: number, file: string, band: ReturnType<typeof readEntry>): Promise<void> {
    const { session, pool } = this.#options;
    const { bandBytes } = session.context;
    const range = bandRange(session, bandIndex);
    const common = { bandBytes, targetFd: this.#target.handle.fd, targetPath: this.#target.path, isSparse: this.#target.isNew, ...range };
    try {
      const result = await pool.run('restoreBand', band === undefined ? common : { ...common, keys: this.#keys, file, band });
      this.writtenBytes += result.writtenBytes;
    } catch (error) {
      await this.#takeDamage(range, error);
    }
    this.#doneBands++;
    this.#doneBytes += range.length;
    this.#report();
  }

  /** Notes a damaged range; what an existing target held there must not pass for the session's data. */
  async #takeDamage(range: ByteRange, error: unknown): Promise<void> {
    this.damage.take(range, error);
    if (this.#options.isKeepGoing !== true || this.#target.isNew) return;
    const zeros = new Uint8Array(BUFFER_BYTES);
    try {
      for (let done = 0; done < range.length; done += BUFFER_BYTES) {
        await writeFully(this.#target.handle, zeros.subarray(0, Math.min(BUFFER_BYTES, range.length - done)), range.offset + done);
      }
    } catch (cause) {
      throw ioError(cause, 'write', this.#target.path);
    }
  }

  #report(): void {
    const { session, onProgress } = this.#options;
    onProgress?.({
      phase: 'restore',
      doneBands: this.#doneBands,
      totalBands: session.bandCount,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes(),
    });
  }

  #totalBytes(): number {
    const { sizeBytes, bandBytes, totals } = this.#options.session.manifest;
    return this.#target.isNew ? Math.min(sizeBytes, (totals.bands - totals.zeroBands) * bandBytes) : sizeBytes;
  }
}

export function interruptedRestore(target: Target): TimebandError {
  const fate = target.isNew ? 'nothing was kept of the new file' : `${target.path} is incomplete now`;
  return new TimebandError(`interrupted; ${fate}.`, { code: 'INTERRUPTED', cause: interrupted() });
}

export interface StreamOptions {
  readonly session: SessionDirectory;
  readonly pool: BandPool;
  readonly isKeepGoing?: boolean;
  /** As RestoreOptions has it. */
  readonly listed?: readonly DamagedBand[];
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
  /** Writes the next bytes and waits until they are taken. The buffer is used again after that. */
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * Restores to a stream, in order. Damage ends it, or with `isKeepGoing` becomes zeros and is listed.
 * @throws TimebandError BAND_CORRUPT, INTERRUPTED
 */
export async function streamSession(options: StreamOptions): Promise<{ readonly writtenBytes: number; readonly damaged: readonly DamagedRange[] }> {
  if (options.isKeepGoing !== true) await requireListedWhole(options.session, options.listed ?? [], { pool: options.pool, target: 'stdout' });
  const image = new SessionImage(options.session, { pool: options.pool });
  const cursor = createCursor();
  const damaged: DamagedRange[] = [];
  const { sizeBytes } = image;
  const totalBands = options.session.bandCount;
  for (let offset = 0; offset < sizeBytes; offset += BUFFER_BYTES) {
    if (options.signal?.aborted === true)
      throw new TimebandError(`interrupted after ${offset} bytes; the output is incomplete.`, { code: 'INTERRUPTED' });
    const out = new Uint8Array(Math.min(BUFFER_BYTES, sizeBytes - offset));
    try {
      await image.read(out, offset, cursor);
    } catch (error) {
      damaged.push(...(await readAround(image, out, { offset, error, isKeepGoing: options.isKeepGoing ?? false })));
    }
    await options.write(out);
    const doneBytes = offset + out.length;
    options.onProgress?.({
      phase: 'restore',
      doneBands: Math.floor((doneBytes / sizeBytes) * totalBands),
      totalBands,
      doneBytes,
      totalBytes: sizeBytes,
    });
  }
  return { writtenBytes: sizeBytes, damaged };
}

const AROUND_BYTES = 131_072;

/** Reads what can be read of a part with damage in it; the rest is zeros. */
async function readAround(
  image: SessionImage,
  out: Uint8Array,
  at: { readonly offset: number; readonly error: unknown; readonly isKeepGoing: boolean },
): Promise<DamagedRange[]> {
  if (!isDamage(at.error)) throw at.error;
  if (!at.isKeepGoing) {
    throw new TimebandError(
      `session ${image.session.sessionId} is damaged near byte ${at.offset}: ${at.error.message}. The output ends there. Restore the rest with --keep-going.`,
      {
        code: 'BAND_CORRUPT',
        cause: at.error,
      },
    );
  }
  const damaged: DamagedRange[] = [];
  for (let start = 0; start < out.length; start += AROUND_BYTES) {
    const part = out.subarray(start, start + AROUND_BYTES);
    try {
      await image.read(part, at.offset + start);
    } catch (error) {
      if (!isDamage(error)) throw error;
      part.fill(0);
      damaged.push({ offset: at.offset + start, length: part.length, reason: error.message });
    }
  }
  return damaged;
}
