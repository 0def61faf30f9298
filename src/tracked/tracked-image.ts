/**
 * A tracked image: bytes of the backing file, with every write marked before it is made. While it is frozen, a band's old
 * contents are put aside before the first write to it, so that a sync reads the image as it was at one instant; the writers
 * go on.
 */
import { fdatasync, read, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { ioError, TimebandError } from '../../bands/errors.ts';
import type { Bitmap } from '../../bands/format/bitmap.ts';
import { bandLengthOf } from '../../bands/format/geometry.ts';
import type { WritableImage } from '../../bands/store/image.ts';
import type { SessionToken, SourceOwner } from '../sources/source.ts';
import { removeLeftAside } from './aside-file.ts';
import { Backing, identityOf } from './backing.ts';
import { dirtyRanges, TRACKED_BAND_BYTES } from './change-tracker.ts';
import { FrozenPoint } from './frozen-point.ts';
import { TrackStore, trackedFolder } from './track-store.ts';
import { isWithinLease } from './trust.ts';
import { WriteGate } from './write-gate.ts';

const readAt = promisify(read); // FileHandle's methods cost a third of all small requests
const writeAt = promisify(write);
const syncData = promisify(fdatasync);
const PAGE_BYTES = 4096;
const MAX_SMALL_BYTES = 16_384;

export interface TrackedImageOptions {
  readonly location: string;
  readonly stateDirectory: string;
  /** How much may be put aside during a sync. */
  readonly asideBytes: number;
}

/** Bands that may differ, or why that is not known. */
export type TrackedChanges = { readonly dirty: Bitmap } | { readonly reason: string };

/** A session that changes are counted from. */
export interface TrackedSession {
  readonly repositoryId: string;
  readonly volumeId: string;
  readonly commitId: string;
  readonly changedBytes: number;
}

export class TrackedImage implements WritableImage {
  /** Of the backing file or device. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly #backing: Backing;
  readonly #store: TrackStore;
  readonly #asideBytes: number;
  readonly #gate: WriteGate = new WriteGate();
  readonly #fd: number;
  #frozen: FrozenPoint | undefined;
  /** Until the aside file of the frozen point that was thawed last is gone: the next one's has the same name. */
  #removing: Promise<void> | undefined;
  /** Writes that are under way. */
  #writing = 0;
  /** The disk failed to store something, which the system may show as it was written, or as it was before. */
  #hasLost = false;

  private constructor(backing: Backing, store: TrackStore, asideBytes: number) {
    this.path = backing.path;
    this.sizeBytes = backing.sizeBytes;
    this.#backing = backing;
    this.#fd = backing.handle.fd;
    this.#store = store;
    this.#asideBytes = asideBytes;
  }

  /** @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, LOCKED, PERMISSION_DENIED, TOOL_MISSING, NO_SPACE */
  static async open({ location, stateDirectory, asideBytes }: TrackedImageOptions): Promise<TrackedImage> {
    const backing = await Backing.open(location);
    try {
      await removeLeftAside(trackedFolder(stateDirectory, backing.path));
      return new TrackedImage(backing, await TrackStore.open(stateDirectory, backing), asideBytes);
    } catch (error) {
      await backing.close();
      throw error;
    }
  }

  /** Of the backing file or device, whatever has its name by now. */
  get identity(): string {
    return identityOf(this.#fd);
  }

  /** Where this machine keeps what belongs to it. */
  get folder(): string {
    return this.#store.folder;
  }

  /** Why sessions from before it was attached are not known any more; undefined: they are, or there were none. */
  get doubt(): string | undefined {
    return this.#store.doubt;
  }

  async read(out: Uint8Array, offset: number): Promise<void> {
    try {
      for (let done = 0; done < out.length; ) {
        const { bytesRead } = await readAt(this.#fd, out, done, out.length - done, offset + done);
        if (bytesRead === 0)
          throw new TimebandError(`${this.path} was cut at byte ${offset + done} by others`, { code: 'IO_ERROR', path: this.path });
        done += bytesRead;
      }
    } catch (error) {
      throw ioError(error, 'read', this.path);
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#gate.pass(async () => {
      if (this.#frozen !== undefined) await this.#frozen.keep(offset, bytes.length);
      this.#writing++;
      try {
        this.#takeLease();
        this.#store.mark(offset, bytes.length);
        await this.#writeAll(bytes, offset);
      } catch (error) {
        throw ioError(error, 'write to', this.path);
      } finally {
        this.#writing--;
        this.#store.renewLease();
      }
    });
  }

  /** Before the lease is taken anew: what happened to the file since it ended, while none of our writes was under way, was done by others. */
  #takeLease(): void {
    const stamp = this.#writing === 1 && this.#store.hasLeaseEnded ? this.#backing.stampNow() : undefined;
    if (stamp !== undefined && !isWithinLease(stamp, this.#store.leaseMs)) this.#store.revokeLease();
    this.#store.renewLease();
  }

  /**
   * A few whole pages go to the page cache in microseconds, less than a thread takes to be woken; all else may wait for the
   * disk, and others must not wait with it.
   */
  async #writeAll(bytes: Uint8Array, offset: number): Promise<void> {
    const isSmall = bytes.length <= MAX_SMALL_BYTES && bytes.length % PAGE_BYTES === 0 && offset % PAGE_BYTES === 0;
    for (let done = 0; done < bytes.length; ) {
      const rest = bytes.length - done;
      done += isSmall
        ? writeSync(this.#fd, bytes, done, rest, offset + done)
        : (await writeAt(this.#fd, bytes, done, rest, offset + done)).bytesWritten;
    }
  }

  async flush(): Promise<void> {
    try {
      await syncData(this.#fd);
    } catch (error) {
      this.#hasLost = true;
      throw ioError(error, 'make durable', this.path);
    }
  }

  /**
   * Freezes the image as it is now, until `thaw`.
   * @param isDryRun nothing will be bound
   * @throws TimebandError LOCKED (it is frozen for another sync), NO_SPACE, IO_ERROR
   */
  async freeze(isDryRun: boolean): Promise<FrozenPoint> {
    return await this.#gate.hold(async () => {
      if (this.#frozen !== undefined) {
        throw new TimebandError(`another sync is reading ${this.path}. Wait until it is done.`, { code: 'LOCKED', path: this.path });
      }
      await this.#removing;
      await this.#noticeOthers();
      const frozen = await FrozenPoint.create({ folder: this.folder, limitBytes: this.#asideBytes, readBand: (band) => this.#readBand(band) });
      try {
        if (!isDryRun) await this.#store.beginEpoch();
      } catch (error) {
        this.#store.release();
        await frozen.remove();
        throw error;
      }
      this.#frozen = frozen;
      return frozen;
    });
  }

  async #readBand(band: number): Promise<Uint8Array> {
    const content = new Uint8Array(bandLengthOf(band, this.sizeBytes, TRACKED_BAND_BYTES));
    await this.read(content, band * TRACKED_BAND_BYTES);
    return content;
  }

  /** What others did to the file is not marked, nor what the disk did. Called while nobody writes. */
  async #noticeOthers(): Promise<void> {
    if (this.#hasLost) return await this.#store.distrust(`the disk of ${this.path} failed to store what was written to it`);
    const isOurs = isWithinLease(await this.#backing.stamp(), this.#store.leaseMs);
    if (!isOurs) await this.#store.distrust(`${this.path} was changed by others while it was attached`);
  }

  /** What may differ from a session. */
  changesSince(token: SessionToken): TrackedChanges {
    const dirty = this.#store.tracker.changesSince(token);
    if (dirty !== undefined) return { dirty };
    return { reason: this.#store.doubt ?? `the tracking of ${this.path} does not reach back to the last session` };
  }

  /** Says that a session, which is about to be committed, is the image as it was frozen. */
  async bind(token: SessionToken): Promise<void> {
    await this.#gate.hold(() => this.#store.bind(token));
  }

  /** Drops what was kept for other sessions of the same volume. */
  async keepOnly(token: SessionToken): Promise<void> {
    await this.#gate.hold(() => this.#store.keepOnly(token));
  }

  /** Drops what is kept for a volume. @returns how many sessions that was for */
  async forget(owner: SourceOwner): Promise<number> {
    return await this.#gate.hold(() => this.#store.forget(owner));
  }

  /** For the user: what was written to since each session that is kept track of, and what of old contents is kept now. */
  describe(): { readonly sessions: readonly TrackedSession[]; readonly asideBytes: number | undefined } {
    const { tracker } = this.#store;
    const sessions = tracker.state.marks.map(({ epoch, ...ids }) => ({
      ...ids,
      changedBytes: dirtyRanges(tracker.dirtySince(epoch), this.sizeBytes).reduce((sum, { length }) => sum + length, 0),
    }));
    return { sessions, asideBytes: this.#frozen?.asideBytes };
  }

  /** Ends a frozen point. */
  async thaw(): Promise<void> {
    const frozen = this.#frozen;
    this.#frozen = undefined;
    this.#store.release();
    if (frozen !== undefined) this.#removing = frozen.remove().catch(() => undefined); // a file that is left is written over by the next
    await this.#removing;
  }

  /** Makes all durable and lets go of the file. Nothing may be written any more. */
  async close(): Promise<void> {
    try {
      await this.thaw();
      try {
        await this.flush();
      } finally {
        await this.#noticeOthers();
      }
      await this.#store.detach(this.#backing);
    } finally {
      await this.#store.close();
      await this.#backing.close();
    }
  }
}
