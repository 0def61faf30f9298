/**
 * The record of one tracked image on this machine: STATE/tracked/KEY/record. Marks and the lease are written in the place,
 * into the page cache, before the data that they are for; that outlives this process, and where the machine goes down
 * nothing of the record is believed. Everything else replaces the file.
 */
import { createHash } from 'node:crypto';
import { constants, writeSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { createDirectories, FILE_MODE, readRegularFile, syncDirectory, TEMPORARY_PREFIX, writeFully } from '../../bands/store/files.ts';
import { bootId } from '../host.ts';
import type { SessionToken, SourceOwner } from '../sources/source.ts';
import type { Backing } from './backing.ts';
import { ChangeTracker, TRACKED_BAND_BYTES } from './change-tracker.ts';
import { decodeTrackRecord, encodeLease, encodeTrackRecord, type ImageUse, LEASE_AT, lastBitmapAt, type TrackRecord } from './track-record.ts';
import { doubtAbout } from './trust.ts';

const MAX_RECORD_BYTES = 1_073_741_824;
const KEY_BYTES = 8;
/** How far ahead the lease is taken, and how much of it must be left when a write begins. */
const LEASE_MS = 250;
const LEASE_LEFT_MS = 60;
/** Nothing that happened to the file is ours. */
const NO_LEASE = -1;

/** The folder of this machine's records of tracked images. */
export function trackedRoot(stateDirectory: string): string {
  return path.join(stateDirectory, 'tracked');
}

/** Where what belongs to the tracked image at `realPath` is kept. */
export function trackedFolder(stateDirectory: string, realPath: string): string {
  return path.join(
    trackedRoot(stateDirectory),
    createHash('sha256')
      .update(realPath)
      .digest('hex')
      .slice(0, KEY_BYTES * 2),
  );
}

export class TrackStore {
  readonly folder: string;
  readonly #image: string;
  #tracker: ChangeTracker;
  #handle: FileHandle;
  #bitmapAt: number;
  #use: ImageUse;
  #leaseMs: number;
  #doubt: string | undefined;
  /** The epoch that began when the image was frozen. */
  #frozenEpoch: number | undefined;

  private constructor(record: TrackRecord, at: { readonly folder: string; readonly handle: FileHandle; readonly bytes: number }) {
    this.folder = at.folder;
    this.#image = record.image;
    this.#tracker = new ChangeTracker(record);
    this.#handle = at.handle;
    this.#bitmapAt = lastBitmapAt(at.bytes, record.sizeBytes);
    this.#use = record.use;
    this.#leaseMs = record.leaseMs;
    this.#doubt = record.doubt;
  }

  /**
   * Takes the record up where it can be believed, or begins one that knows of no session. When this returns it is durable that
   * the image is attached. The backing must be held exclusively.
   */
  static async open(stateDirectory: string, backing: Backing): Promise<TrackStore> {
    const folder = trackedFolder(stateDirectory, backing.path);
    await createDirectories(folder);
    const stamp = await backing.stamp();
    const nowMs = Date.now();
    const before = await readRecord(folder);
    const found = { stamp, sizeBytes: backing.sizeBytes, bootId: bootId(), nowMs };
    const doubt = 'reason' in before ? before.reason : doubtAbout(before, found);
    const known = 'epochs' in before && doubt === undefined ? before : { ...newRecord(backing), doubt };
    const base: TrackRecord = { ...known, use: { kind: 'attached', bootId: bootId() ?? '', stamp }, leaseMs: nowMs + LEASE_MS };
    const { handle, bytes } = await placeRecord(folder, base);
    return new TrackStore(base, { folder, handle, bytes });
  }

  get tracker(): ChangeTracker {
    return this.#tracker;
  }

  /** Why sessions from before are not known any more. */
  get doubt(): string | undefined {
    return this.#doubt;
  }

  get leaseMs(): number {
    return this.#leaseMs;
  }

  /** Marks the bands of a range that is about to be written. @throws Error of the system: then nothing may be written */
  mark(offset: number, length: number): void {
    const { current } = this.#tracker;
    const first = Math.floor(offset / TRACKED_BAND_BYTES);
    const last = Math.floor((offset + length - 1) / TRACKED_BAND_BYTES);
    let band = first;
    while (band <= last && current.has(band)) band++;
    if (band > last) return;
    const bytes = current.encode().slice(band >>> 3, (last >>> 3) + 1);
    for (let i = band; i <= last; i++) bytes[(i >>> 3) - (band >>> 3)] = (bytes[(i >>> 3) - (band >>> 3)] ?? 0) | (1 << (i & 7));
    writeAll(this.#handle.fd, bytes, this.#bitmapAt + (band >>> 3)); // before the bit in memory: one that only is there would never be written
    current.setRange(band, last + 1);
  }

  /** Called before and after each write: so that the times of the file are never later than the lease. */
  renewLease(): void {
    if (this.#leaseMs === NO_LEASE) return;
    const now = Date.now();
    if (now + LEASE_LEFT_MS < this.#leaseMs && this.#leaseMs <= now + LEASE_MS) return;
    writeAll(this.#handle.fd, encodeLease(now + LEASE_MS), LEASE_AT);
    this.#leaseMs = now + LEASE_MS;
  }

  /** Whether the lease is over: what happens to the file is not ours. */
  get hasLeaseEnded(): boolean {
    return this.#leaseMs !== NO_LEASE && this.#leaseMs < Date.now();
  }

  /** Others changed the file: whoever looks at its times finds them later than any lease. */
  revokeLease(): void {
    this.#leaseMs = NO_LEASE; // first, and in the place: should the record not be replaced, it is not believed
    writeAll(this.#handle.fd, encodeLease(NO_LEASE), LEASE_AT);
  }

  /** Begins a new epoch, which is kept until `release`. No mark may be set meanwhile, as in all that follow. */
  async beginEpoch(): Promise<void> {
    const tracker = this.#tracker.clone();
    const epoch = tracker.beginEpoch();
    await this.#replace(tracker, epoch);
  }

  /** Says that a session is the image as it was when the epoch began. */
  async bind(token: SessionToken): Promise<void> {
    const epoch = this.#frozenEpoch;
    if (epoch === undefined) throw new RangeError('token: nothing is frozen');
    const tracker = this.#tracker.clone();
    tracker.bind(token, epoch);
    this.#doubt = undefined; // it was told
    await this.#replace(tracker, epoch);
  }

  async keepOnly(token: SessionToken): Promise<void> {
    const tracker = this.#tracker.clone();
    tracker.keepOnly(token);
    await this.#replace(tracker, this.#frozenEpoch);
  }

  async forget(owner: SourceOwner): Promise<number> {
    const tracker = this.#tracker.clone();
    const count = tracker.forget(owner);
    await this.#replace(tracker, this.#frozenEpoch);
    return count;
  }

  /** The epoch that was begun is nothing special any more: bound by now, or to be joined to the one before. */
  release(): void {
    this.#frozenEpoch = undefined;
  }

  /** Forgets all sessions: what changed since cannot be vouched for any more. */
  async distrust(doubt: string): Promise<void> {
    this.#doubt = doubt;
    this.revokeLease();
    await this.#replace(ChangeTracker.create(this.#tracker.sizeBytes), undefined);
    this.#leaseMs = 0;
    this.renewLease();
  }

  /** Says that the image is detached, and how it was left. Its data must be durable, and nothing is written any more. */
  async detach(backing: Backing): Promise<void> {
    this.#use = { kind: 'detached', stamp: await backing.finalStamp() };
    await this.#replace(this.#tracker.clone(), undefined);
  }

  /** Lets go of the file as it is. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #replace(tracker: ChangeTracker, frozenEpoch: number | undefined): Promise<void> {
    tracker.compact(frozenEpoch);
    const record: TrackRecord = { ...tracker.state, image: this.#image, use: this.#use, leaseMs: this.#leaseMs, doubt: this.#doubt };
    const old = this.#handle;
    try {
      await placeRecord(this.folder, record, ({ handle, bytes }) => {
        this.#handle = handle;
        this.#bitmapAt = lastBitmapAt(bytes, tracker.sizeBytes);
        this.#tracker = tracker;
        this.#frozenEpoch = frozenEpoch;
      });
    } finally {
      if (old !== this.#handle) await old.close();
    }
  }
}

/** Whether an image was detached in order: not if the process that served it was killed, or could not make it durable. */
export async function isDetached(stateDirectory: string, realPath: string): Promise<boolean> {
  const record = await readRecord(trackedFolder(stateDirectory, realPath));
  return 'use' in record && record.use.kind === 'detached';
}

function newRecord(backing: Backing): Pick<TrackRecord, 'image' | 'sizeBytes' | 'epochs' | 'marks'> {
  return { image: backing.path, ...ChangeTracker.create(backing.sizeBytes).state };
}

/** The record, or why there is none; undefined: there never was. */
async function readRecord(folder: string): Promise<TrackRecord | { readonly reason: string | undefined }> {
  const file = recordFile(folder);
  try {
    return decodeTrackRecord(await readRegularFile(file, { maxBytes: MAX_RECORD_BYTES, what: 'record of a tracked image' }));
  } catch (error) {
    if (!(error instanceof TimebandError)) throw error;
    if (error.code === 'RECORD_MISSING') return { reason: undefined };
    if (error.code === 'RECORD_CORRUPT') return { reason: `the record ${file} is damaged` };
    throw error;
  }
}

function recordFile(folder: string): string {
  return path.join(folder, 'record');
}

interface PlacedRecord {
  readonly handle: FileHandle;
  readonly bytes: number;
}

/** Puts a record in the place of the one before. From `onPlaced` on it is the one that is found, also if this fails after it. */
async function placeRecord(folder: string, record: TrackRecord, onPlaced: (placed: PlacedRecord) => void = () => undefined): Promise<PlacedRecord> {
  const bytes = encodeTrackRecord(record);
  const temporary = path.join(folder, `${TEMPORARY_PREFIX}record`); // one name: what a killed process left is written over
  const file = recordFile(folder);
  let handle: FileHandle | undefined;
  try {
    handle = await open(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, FILE_MODE);
    await writeFully(handle, bytes, 0);
    await handle.sync();
    await rename(temporary, file);
  } catch (error) {
    await handle?.close();
    await rm(temporary, { force: true });
    throw ioError(error, 'write', file);
  }
  const placed = { handle, bytes: bytes.length };
  onPlaced(placed);
  await syncDirectory(folder);
  return placed;
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}
