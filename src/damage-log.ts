/** Damage as it is met while a session is read: what counts as damage, where it lies, and how it is told. */
import { isShortage, TimebandError } from '../bands/errors.ts';
import { type ByteRange, bandLengthOf, ENTRIES_PER_PAGE, mergeRanges } from '../bands/format/geometry.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';

/** A part of the volume that could not be read, and why. */
export interface DamagedRange extends ByteRange {
  readonly reason: string;
}

const DAMAGE_CODES: ReadonlySet<string> = new Set(['BAND_CORRUPT', 'BAND_MISSING', 'RECORD_CORRUPT', 'RECORD_MISSING', 'IO_ERROR']);

/** Whether reading the repository failed because of its files (and not because of a mistake, a full disk or too many open files). */
export function isDamage(error: unknown): error is TimebandError {
  return error instanceof TimebandError && DAMAGE_CODES.has(error.code) && !isShortage(error);
}

/** Collects the damaged ranges of a session. Unless the reader goes on after damage, it asks `mustStop` and ends with `throwIfStopped`. */
export class DamageLog {
  readonly #options: { readonly session: SessionDirectory; readonly target: string; readonly isKeepGoing: boolean };
  readonly #damaged: DamagedRange[] = [];

  constructor(options: { readonly session: SessionDirectory; readonly target: string; readonly isKeepGoing: boolean }) {
    this.#options = options;
  }

  /** Notes a range that could not be read. An error that is no damage of the repository is thrown on. */
  take(range: ByteRange, error: unknown): void {
    if (!isDamage(error) || error.path === this.#options.target) throw error;
    this.#damaged.push({ ...range, reason: error.message });
  }

  get mustStop(): boolean {
    return this.#damaged.length > 0 && !this.#options.isKeepGoing;
  }

  /** The ranges in their order. */
  ranges(): DamagedRange[] {
    return this.#damaged.toSorted((a, b) => a.offset - b.offset);
  }

  /** @param fate what became of the target @throws TimebandError BAND_CORRUPT, which lists the ranges */
  throwIfStopped(fate: string): void {
    if (!this.mustStop) return;
    const damaged = this.ranges();
    throw new TimebandError(
      `session ${this.#options.session.sessionId} is damaged at ${formatRanges(damaged)}: ${damaged[0]?.reason}. ${fate}. ` +
        'Restore the rest with --keep-going, or list all damage with "timeband check --data".',
      { code: 'BAND_CORRUPT', path: this.#options.target },
    );
  }
}

/** What of the volume a band holds. */
export function bandRange(session: SessionDirectory, bandIndex: number): ByteRange {
  const { bandBytes } = session.context;
  return { offset: bandIndex * bandBytes, length: bandLengthOf(bandIndex, session.manifest.sizeBytes, bandBytes) };
}

/** What of the volume the bands of an index page hold. */
export function pageRange(session: SessionDirectory, page: number): ByteRange {
  const pageBytes = ENTRIES_PER_PAGE * session.context.bandBytes;
  const offset = page * pageBytes;
  return { offset, length: Math.min(pageBytes, session.manifest.sizeBytes - offset) };
}

/** `bytes 0-2097151, 4194304-6291455`, adjacent ranges joined, at most eight. */
export function formatRanges(ranges: readonly ByteRange[]): string {
  const merged = mergeRanges(ranges);
  const shown = merged.slice(0, 8).map(({ offset, length }) => `${offset}-${offset + length - 1}`);
  return `bytes ${shown.join(', ')}${merged.length > shown.length ? ` and ${merged.length - shown.length} more ranges` : ''}`;
}
