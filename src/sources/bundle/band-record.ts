/**
 * What a sync remembers of a sparse bundle's band files, and what changed since, by comparing. Pure.
 *
 * A band is unchanged if its file's size, times and inode are what they were, and if those times are older than
 * `suspectFromNs`: a file written again within the same tick of the clock has the same times, so times from shortly
 * before the look are believed to nothing.
 *
 * The record, little-endian:
 *
 *     0    8  "TBbands1"
 *     8   16  repository id ┐
 *     24  16  volume id     │ the session that the record is bound to
 *     40  16  commit id     ┘
 *     56  32  SHA-256 of the property list
 *     88   8  device of the folder `bands`, u64
 *     96   8  inode of that folder, u64
 *     104  8  suspectFromNs, i64
 *     112  8  number of bands, u64
 *     120 40  each band, ascending: number, size, mtime in ns (i64), ctime in ns (i64), inode; 8 bytes each
 *     …   32  SHA-256 of all before
 */
import { createHash } from 'node:crypto';
import { equalBytes, fromHex, utf8, viewOf } from '../../../bands/format/bytes.ts';
import type { SessionToken } from '../source.ts';

const MAGIC = 'TBbands1';
const ID_BYTES = 16;
const DIGEST_BYTES = 32;
const PLIST_AT = 56;
const DEVICE_AT = 88;
const FOLDER_AT = 96;
const SUSPECT_AT = 104;
const COUNT_AT = 112;
const HEADER_BYTES = 120;
const BAND_BYTES = 40;
/** The coarsest clocks of file systems (HFS+, FAT, SMB) tick every one or two seconds. */
const TICK_NS = 2_000_000_000n;

/** A band file, as its status tells of it. */
export interface BandStamp {
  readonly index: number;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly ino: bigint;
}

export interface BandRecord {
  readonly plistDigest: Uint8Array;
  readonly deviceId: bigint;
  readonly folderId: bigint;
  /** A band with a time at or after this may have been written again unseen. */
  readonly suspectFromNs: bigint;
  /** By ascending index. */
  readonly bands: readonly BandStamp[];
}

export function byIndex(a: BandStamp, b: BandStamp): number {
  return a.index - b.index;
}

/**
 * From which time on times are not to be believed: two seconds before the look began. Where the file system's clock may
 * not be ours (a server's), its present is known only to be not before the newest time that it gave.
 */
export function suspectFrom(startedNs: bigint, bands: readonly BandStamp[], hasOurClock: boolean): bigint {
  const newest = bands.reduce((latest, { mtimeNs, ctimeNs }) => max(latest, max(mtimeNs, ctimeNs)), 0n);
  return (hasOurClock || newest > startedNs ? startedNs : newest) - TICK_NS;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

export function encodeBandRecord(record: BandRecord, token: SessionToken): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + record.bands.length * BAND_BYTES + DIGEST_BYTES);
  bytes.set(prefixOf(token));
  bytes.set(record.plistDigest, PLIST_AT);
  const view = viewOf(bytes);
  view.setBigUint64(DEVICE_AT, record.deviceId, true);
  view.setBigUint64(FOLDER_AT, record.folderId, true);
  view.setBigInt64(SUSPECT_AT, record.suspectFromNs, true);
  view.setBigUint64(COUNT_AT, BigInt(record.bands.length), true);
  for (const [i, { index, size, mtimeNs, ctimeNs, ino }] of record.bands.entries()) {
    const at = HEADER_BYTES + i * BAND_BYTES;
    view.setBigUint64(at, BigInt(index), true);
    view.setBigUint64(at + 8, BigInt(size), true);
    view.setBigInt64(at + 16, mtimeNs, true);
    view.setBigInt64(at + 24, ctimeNs, true);
    view.setBigUint64(at + 32, ino, true);
  }
  bytes.set(digestOf(bytes), bytes.length - DIGEST_BYTES);
  return bytes;
}

function prefixOf(token: SessionToken): Uint8Array {
  const ids = [token.repositoryId, token.volumeId, token.commitId].map((id) => fromHex(id, ID_BYTES));
  const prefix = new Uint8Array(PLIST_AT);
  prefix.set(utf8(MAGIC));
  for (const [i, id] of ids.entries()) {
    if (id === undefined) throw new RangeError('token: ids of another length');
    prefix.set(id, MAGIC.length + i * ID_BYTES);
  }
  return prefix;
}

function digestOf(bytes: Uint8Array): Uint8Array {
  return createHash('sha256')
    .update(bytes.subarray(0, bytes.length - DIGEST_BYTES))
    .digest();
}

/** The record that was bound to `token`; a reason if these bytes are not that. */
export function decodeBandRecord(bytes: Uint8Array, token: SessionToken): BandRecord | 'damaged' | 'foreign' {
  if (bytes.length < HEADER_BYTES + DIGEST_BYTES || !equalBytes(digestOf(bytes), bytes.subarray(bytes.length - DIGEST_BYTES))) return 'damaged';
  if (!equalBytes(bytes.subarray(0, PLIST_AT), prefixOf(token))) return 'foreign';
  const view = viewOf(bytes);
  const count = Number(view.getBigUint64(COUNT_AT, true));
  if (bytes.length !== HEADER_BYTES + count * BAND_BYTES + DIGEST_BYTES) return 'damaged';
  const bands = Array.from({ length: count }, (_, i): BandStamp => {
    const at = HEADER_BYTES + i * BAND_BYTES;
    return {
      index: Number(view.getBigUint64(at, true)),
      size: Number(view.getBigUint64(at + 8, true)),
      mtimeNs: view.getBigInt64(at + 16, true),
      ctimeNs: view.getBigInt64(at + 24, true),
      ino: view.getBigUint64(at + 32, true),
    };
  });
  return {
    plistDigest: bytes.subarray(PLIST_AT, DEVICE_AT),
    deviceId: view.getBigUint64(DEVICE_AT, true),
    folderId: view.getBigUint64(FOLDER_AT, true),
    suspectFromNs: view.getBigInt64(SUSPECT_AT, true),
    bands,
  };
}

/** What two looks at a bundle tell: numbers of bands that may differ, or why that cannot be known. */
export type BandComparison = { readonly changed: readonly number[] } | { readonly reason: string };

/** Compares a record with the bundle as it is now. Deleted bands (zeros now) and new ones have changed. */
export function compareBands(then: BandRecord, now: Omit<BandRecord, 'suspectFromNs'>): BandComparison {
  if (!equalBytes(then.plistDigest, now.plistDigest)) return { reason: "the bundle's Info.plist changed since the last session" };
  if (then.deviceId !== now.deviceId || then.folderId !== now.folderId)
    return { reason: 'the bundle is a copy of the one that was read for the last session, or on another file system' };
  const before = new Map(then.bands.map((band) => [band.index, band]));
  const changed: number[] = [];
  for (const band of now.bands) {
    const old = before.get(band.index);
    before.delete(band.index);
    if (old !== undefined && old.ino === band.ino && band.ctimeNs < old.ctimeNs)
      return { reason: 'times of band files went back (a clock was set back, or the file system was put back to an older state)' };
    if (old === undefined || !isSameStamp(old, band) || isSuspect(old, then.suspectFromNs)) changed.push(band.index);
  }
  return { changed: [...changed, ...before.keys()].sort((a, b) => a - b) };
}

/** Whether two looks at a band file saw the same. */
export function isSameStamp(a: BandStamp, b: BandStamp): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.ino === b.ino;
}

function isSuspect({ mtimeNs, ctimeNs }: BandStamp, fromNs: bigint): boolean {
  return max(mtimeNs, ctimeNs) >= fromNs;
}
