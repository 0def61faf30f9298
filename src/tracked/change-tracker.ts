/**
 * Which bands of a tracked image were written to since which session. Pure: no file, no clock.
 *
 * Time is cut into epochs, each with a bitmap; writes mark the last one. A sync freezes the image by beginning a new epoch,
 * and binds it to its session: a *mark*. What changed since a session is everything that is marked from its epoch on. With
 * one repository that is the pair of bitmaps of every such tracker, one that waits for the commit and one that takes new
 * writes; with several, each has its own place in the same row. Nothing ever clears a single bit. An epoch that no mark
 * begins with is joined to the one before it, and those before the oldest mark are dropped.
 */
import { Bitmap } from '../../bands/format/bitmap.ts';
import { type ByteRange, bandCountOf, MIN_BAND_BYTES, mergeRanges } from '../../bands/format/geometry.ts';
import type { SessionToken, SourceOwner } from '../sources/source.ts';

/** What one bit stands for: every band size of a volume is a multiple of it, and to copy so little aside takes no time. */
export const TRACKED_BAND_BYTES: number = MIN_BAND_BYTES;

/** A session of one volume of one repository, and the epoch that began when it was frozen. */
export interface SessionMark {
  readonly repositoryId: string;
  readonly volumeId: string;
  /** As in SessionToken. */
  readonly commitId: string;
  readonly epoch: number;
}

export interface Epoch {
  readonly number: number;
  readonly dirty: Bitmap;
}

export interface TrackerState {
  readonly sizeBytes: number;
  /** Ascending by number; at least one. */
  readonly epochs: readonly Epoch[];
  readonly marks: readonly SessionMark[];
}

export class ChangeTracker {
  readonly sizeBytes: number;
  #epochs: readonly Epoch[];
  #marks: readonly SessionMark[];

  constructor({ sizeBytes, epochs, marks }: TrackerState) {
    if (epochs.length === 0) throw new RangeError('epochs: none');
    this.sizeBytes = sizeBytes;
    this.#epochs = epochs;
    this.#marks = marks;
  }

  /** One that knows of no session. */
  static create(sizeBytes: number): ChangeTracker {
    return new ChangeTracker({ sizeBytes, epochs: [{ number: 1, dirty: emptyBitmap(sizeBytes) }], marks: [] });
  }

  get state(): TrackerState {
    return { sizeBytes: this.sizeBytes, epochs: this.#epochs, marks: this.#marks };
  }

  /** A copy whose changes do not touch this one. */
  clone(): ChangeTracker {
    const epochs = this.#epochs.map(({ number, dirty }) => ({ number, dirty: copyOf(dirty) }));
    return new ChangeTracker({ sizeBytes: this.sizeBytes, epochs, marks: this.#marks });
  }

  /** The bitmap that writes mark. */
  get current(): Bitmap {
    return this.#last.dirty;
  }

  get #last(): Epoch {
    const last = this.#epochs.at(-1);
    if (last === undefined) throw new RangeError('epochs: none');
    return last;
  }

  /** Freezes: what is written from now on belongs to a new epoch. @returns its number, to bind it */
  beginEpoch(): number {
    const number = this.#last.number + 1;
    this.#epochs = [...this.#epochs, { number, dirty: emptyBitmap(this.sizeBytes) }];
    return number;
  }

  /** Says that `token` is the image as it was when `epoch` began. */
  bind(token: SessionToken, epoch: number): void {
    if (!this.#epochs.some(({ number }) => number === epoch)) throw new RangeError('epoch: it is gone');
    const { repositoryId, volumeId, commitId } = token;
    this.#marks = [...this.#marks.filter((mark) => !isMarkOf(mark, token)), { repositoryId, volumeId, commitId, epoch }];
  }

  /** Drops the marks of other sessions of the same volume. */
  keepOnly(token: SessionToken): void {
    this.#marks = this.#marks.filter((mark) => !isOwnedBy(mark, token) || isMarkOf(mark, token));
  }

  /** Drops all marks of a volume. @returns how many there were */
  forget(owner: SourceOwner): number {
    const before = this.#marks.length;
    this.#marks = this.#marks.filter((mark) => !isOwnedBy(mark, owner));
    return before - this.#marks.length;
  }

  /** The bands that may differ from the session; undefined if it has no mark. */
  changesSince(token: SessionToken): Bitmap | undefined {
    const mark = this.#marks.find((one) => isMarkOf(one, token));
    return mark === undefined ? undefined : this.dirtySince(mark.epoch);
  }

  /** The bands that were written to since an epoch began. */
  dirtySince(epoch: number): Bitmap {
    const dirty = emptyBitmap(this.sizeBytes);
    for (const one of this.#epochs) if (one.number >= epoch) dirty.or(one.dirty);
    return dirty;
  }

  /** Joins and drops the epochs that no mark needs. @param frozen one that is about to be bound */
  compact(frozen: number | undefined): void {
    const starts = new Set(this.#marks.map(({ epoch }) => epoch));
    if (frozen !== undefined) starts.add(frozen);
    const kept: { readonly number: number; readonly dirty: Bitmap }[] = [];
    for (const { number, dirty } of this.#epochs) {
      if (starts.has(number)) kept.push({ number, dirty });
      else kept.at(-1)?.dirty.or(dirty);
    }
    this.#epochs = kept.length > 0 ? kept : [{ number: this.#last.number, dirty: emptyBitmap(this.sizeBytes) }];
  }
}

function isOwnedBy(mark: SessionMark, owner: SourceOwner): boolean {
  return mark.repositoryId === owner.repositoryId && mark.volumeId === owner.volumeId;
}

function isMarkOf(mark: SessionMark, token: SessionToken): boolean {
  return isOwnedBy(mark, token) && mark.commitId === token.commitId;
}

function emptyBitmap(sizeBytes: number): Bitmap {
  return new Bitmap(bandCountOf(sizeBytes, TRACKED_BAND_BYTES));
}

function copyOf(bitmap: Bitmap): Bitmap {
  return new Bitmap(bitmap.size, Uint8Array.from(bitmap.encode()));
}

/** The bytes of an image that the bands of a bitmap hold. */
export function dirtyRanges(dirty: Bitmap, sizeBytes: number): ByteRange[] {
  const ranges: ByteRange[] = [];
  for (const band of dirty) {
    const offset = band * TRACKED_BAND_BYTES;
    ranges.push({ offset, length: Math.min(TRACKED_BAND_BYTES, sizeBytes - offset) });
  }
  return mergeRanges(ranges);
}
