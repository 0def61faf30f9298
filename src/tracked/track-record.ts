/**
 * What is kept of a tracked image on this machine, little-endian. Pure.
 *
 *     0   8  "TBtrack1"
 *     8   4  length of the header, H
 *     12  4  CRC-32 of the header
 *     16  8  leaseMs, a double: whatever changed the image until then (ms since 1970) may have been the driver
 *     24  H  header: JSON
 *     …      a bitmap for each epoch, ⌈bands / 8⌉ bytes each, the last one's last
 *
 * While the image is attached (`use.kind` is "attached") the lease and the last bitmap are written to in the place. They are
 * right as long as this boot of the machine lasts: a process that is killed takes nothing of them along, a power cut does,
 * and then nothing of the record is believed. All other bytes are covered by checksums.
 */
import { TimebandError } from '../../bands/errors.ts';
import { Bitmap } from '../../bands/format/bitmap.ts';
import { concat, equalBytes, readU32le, utf8, viewOf, writeU32le } from '../../bands/format/bytes.ts';
import { crc32 } from '../../bands/format/crc32.ts';
import { bandCountOf } from '../../bands/format/geometry.ts';
import { type Epoch, type SessionMark, TRACKED_BAND_BYTES } from './change-tracker.ts';

const MAGIC = utf8('TBtrack1');
const LENGTH_AT = 8;
const CRC_AT = 12;
export const LEASE_AT = 16;
const HEADER_AT = 24;
const ID = /^[0-9a-f]{32}$/;

/** A file or device as it was left: if nobody else wrote to it since, it is so still. */
export type ImageStamp =
  | { readonly kind: 'file'; readonly ino: string; readonly birthNs: string; readonly mtimeNs: string; readonly ctimeNs: string }
  /** The sequence number is another after each change of the medium; sectors written count from its start. */
  | { readonly kind: 'device'; readonly device: string; readonly bootId: string; readonly sequence: string; readonly sectorsWritten: string };

export type ImageUse =
  /** Being served, or it was when its process was killed. */
  | { readonly kind: 'attached'; readonly bootId: string; readonly stamp: ImageStamp }
  /** Detached in order: everything is durable, and this is how the image was left. */
  | { readonly kind: 'detached'; readonly stamp: ImageStamp };

export interface TrackRecord {
  readonly image: string;
  readonly sizeBytes: number;
  readonly use: ImageUse;
  readonly leaseMs: number;
  readonly epochs: readonly Epoch[];
  readonly marks: readonly SessionMark[];
  /** Why marks were dropped for which nobody has asked since; for the user. */
  readonly doubt: string | undefined;
}

interface Header extends Omit<TrackRecord, 'epochs' | 'leaseMs'> {
  readonly epochs: readonly { readonly number: number /** Undefined while it is written to in the place. */; readonly crc: number | undefined }[];
}

export function encodeTrackRecord({ epochs, leaseMs, ...record }: TrackRecord): Uint8Array {
  const isLive = record.use.kind === 'attached';
  const described = epochs.map(({ number, dirty }, i) => ({ number, crc: isLive && i === epochs.length - 1 ? undefined : crc32(dirty.encode()) }));
  const header = utf8(JSON.stringify({ ...record, epochs: described } satisfies Header));
  const head = new Uint8Array(HEADER_AT);
  head.set(MAGIC);
  writeU32le(head, LENGTH_AT, header.length);
  writeU32le(head, CRC_AT, crc32(header));
  head.set(encodeLease(leaseMs), LEASE_AT);
  return concat(head, header, ...epochs.map(({ dirty }) => dirty.encode()));
}

export function encodeLease(leaseMs: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setFloat64(0, leaseMs, true);
  return bytes;
}

/** @throws TimebandError RECORD_CORRUPT */
export function decodeTrackRecord(bytes: Uint8Array): TrackRecord {
  if (bytes.length < HEADER_AT || !equalBytes(bytes.subarray(0, MAGIC.length), MAGIC)) throw corrupt('it does not begin as one');
  const headerBytes = bytes.subarray(HEADER_AT, HEADER_AT + readU32le(bytes, LENGTH_AT));
  if (crc32(headerBytes) !== readU32le(bytes, CRC_AT)) throw corrupt('the checksum of its header is wrong');
  const { epochs: described, ...header } = parseHeader(headerBytes);
  const bitmapBytes = Math.ceil(bandCountOf(header.sizeBytes, TRACKED_BAND_BYTES) / 8);
  const first = HEADER_AT + headerBytes.length;
  if (bytes.length !== first + described.length * bitmapBytes) throw corrupt(`${bytes.length} bytes do not hold its bitmaps`);
  const epochs = described.map(({ number, crc }, i) => {
    const bitmap = bytes.slice(first + i * bitmapBytes, first + (i + 1) * bitmapBytes);
    if (crc !== undefined && crc32(bitmap) !== crc) throw corrupt('the checksum of a bitmap is wrong');
    return { number, dirty: Bitmap.decode(bitmap, bandCountOf(header.sizeBytes, TRACKED_BAND_BYTES)) };
  });
  const leaseMs = viewOf(bytes).getFloat64(LEASE_AT, true);
  if (!Number.isFinite(leaseMs)) throw corrupt('its lease is no time');
  return { ...header, epochs, leaseMs };
}

/** Where the bitmap of the last epoch begins. */
export function lastBitmapAt(recordBytes: number, sizeBytes: number): number {
  return recordBytes - Math.ceil(bandCountOf(sizeBytes, TRACKED_BAND_BYTES) / 8);
}

function corrupt(what: string): TimebandError {
  return new TimebandError(`not a record of a tracked image: ${what}`, { code: 'RECORD_CORRUPT' });
}

function parseHeader(bytes: Uint8Array): Header {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw corrupt('its header is not JSON');
  }
  const { image, sizeBytes, use, epochs, marks, doubt } = fieldsOf(value);
  const isWhole =
    typeof image === 'string' &&
    typeof sizeBytes === 'number' &&
    Number.isSafeInteger(sizeBytes) &&
    sizeBytes > 0 &&
    isUse(use) &&
    isListOf(epochs, isEpoch) &&
    epochs.length > 0 &&
    isListOf(marks, isMark) &&
    (doubt === undefined || typeof doubt === 'string');
  if (!isWhole) throw corrupt('its header lacks something');
  if (use.kind === 'detached' && epochs.some(({ crc }) => crc === undefined)) throw corrupt('it was not closed');
  return { image, sizeBytes, use, epochs, marks, doubt };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function isListOf<T>(value: unknown, isOne: (item: unknown) => item is T): value is readonly T[] {
  return Array.isArray(value) && value.every(isOne);
}

function areTexts(...values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === 'string');
}

function isEpoch(value: unknown): value is Header['epochs'][number] {
  const { number, crc } = fieldsOf(value);
  return Number.isSafeInteger(number) && (crc === undefined || Number.isSafeInteger(crc));
}

function isMark(value: unknown): value is SessionMark {
  const { epoch, ...ids } = fieldsOf(value);
  return Number.isSafeInteger(epoch) && [ids['repositoryId'], ids['volumeId'], ids['commitId']].every((id) => typeof id === 'string' && ID.test(id));
}

function isUse(value: unknown): value is ImageUse {
  const { kind, bootId, stamp } = fieldsOf(value);
  return isStamp(stamp) && (kind === 'detached' || (kind === 'attached' && typeof bootId === 'string'));
}

function isStamp(value: unknown): value is ImageStamp {
  const stamp = fieldsOf(value);
  if (stamp['kind'] === 'file') return areTexts(stamp['ino'], stamp['birthNs'], stamp['mtimeNs'], stamp['ctimeNs']);
  return stamp['kind'] === 'device' && areTexts(stamp['device'], stamp['bootId'], stamp['sequence'], stamp['sectorsWritten']);
}
