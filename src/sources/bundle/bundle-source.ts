/**
 * A source: an Apple sparse bundle, plain and not attached. Its band files, of any size that Apple allows, are read in
 * the place; what changed is known from their times (band-record.ts). There is nothing to freeze: a lock keeps the bundle
 * from being attached, and a second look after reading finds what was written all the same.
 */
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { ioError, TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, mergeRanges } from '../../../bands/format/geometry.ts';
import { syncFileSystem } from '../../../bands/store/files.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import { DataMap, TRUSTED_FILE_SYSTEMS } from '../data-map.ts';
import { typeOfLocation } from '../image-source.ts';
import type { ChangeSet, SessionToken, SourceContext, SourceDriver, SourceProbe, SourceView } from '../source.ts';
import { BandReader } from './band-reader.ts';
import { type BandRecord, type BandStamp, compareBands, isSameStamp, suspectFrom } from './band-record.ts';
import { BandRecords } from './band-records.ts';
import { type BandScan, type BundleInfo, bandsFolder, isBundle, readBundleInfo, scanBands } from './bundle-files.ts';
import { TokenLock } from './token-lock.ts';

const SHOWN_STRANGERS = 3;
const NS_PER_MS = 1_000_000n;

/** What is known of a bundle once it is open. */
interface OpenBundle {
  readonly location: string;
  readonly info: BundleInfo;
  readonly scan: BandScan;
  readonly record: BandRecord;
  readonly lock: TokenLock;
  readonly records: BandRecords | undefined;
}

class BundleView implements SourceView {
  readonly kind = 'bundle';
  readonly location: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[];
  readonly #bundle: OpenBundle;
  readonly #reader: BandReader;

  constructor(bundle: OpenBundle) {
    const { location, info, scan, lock } = bundle;
    this.#bundle = bundle;
    this.#reader = new BandReader(location, info.bandBytes, new Map(scan.bands.map(({ index, size }) => [index, size])));
    this.location = location;
    this.sizeBytes = info.sizeBytes;
    this.warnings = [...info.warnings, ...lock.warnings, ...describeStrangers(location, scan.strangers)];
  }

  /** Of the volume: where band files are, and how far they reach. */
  readDataMap(): Promise<DataMap> {
    const ranges = this.#bundle.scan.bands.map(({ index, size }) => this.#rangeOf(index, size));
    return Promise.resolve(new DataMap(ranges, this.sizeBytes));
  }

  #rangeOf(index: number, length: number): ByteRange {
    const offset = index * this.#bundle.info.bandBytes;
    return { offset, length: Math.max(0, Math.min(length, this.sizeBytes - offset)) };
  }

  async changesSince(base: SessionToken | undefined): Promise<ChangeSet> {
    if (base === undefined) return { isKnown: false, reason: undefined };
    const then = await this.#bundle.records?.read(base);
    if (then === undefined) return { isKnown: false, reason: 'there is no folder to keep a record of the bundle in' };
    const comparison = 'reason' in then ? then : compareBands(then, this.#bundle.record);
    if ('reason' in comparison) return { isKnown: false, reason: comparison.reason };
    return { isKnown: true, ranges: mergeRanges(comparison.changed.map((index) => this.#rangeOf(index, this.#bundle.info.bandBytes))) };
  }

  withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return this.#reader.withBand(range, data, use);
  }

  async verifyStable(): Promise<readonly string[]> {
    const { location, info, scan } = this.#bundle;
    const now = await readAgain(location, info);
    if (now === undefined || now.deviceId !== scan.deviceId || now.folderId !== scan.folderId) {
      throw new TimebandError(
        `${location} was replaced, or its size changed, while it was read. No session was made; run sync again when it is at rest.`,
        {
          code: 'SOURCE_CHANGED',
          path: location,
        },
      );
    }
    const count = countDifferent(scan.bands, now.bands);
    if (count === 0) return [];
    return [
      `${count} band(s) of ${location} were written to while it was read: this session may mix old and new data (as after a power cut). Detach the bundle and sync again to be sure.`,
    ];
  }

  /** The look that came before reading counts: what was written since then differs from it at the next sync. */
  async bind(token: SessionToken): Promise<void> {
    await this.#bundle.records?.write(token, this.#bundle.record);
  }

  async committed(token: SessionToken): Promise<readonly string[]> {
    await this.#bundle.records?.removeOthers(token);
    return [];
  }

  async close(): Promise<void> {
    await this.#bundle.lock.release();
  }
}

/** The bundle after it was read; undefined if its property list is another now. */
async function readAgain(location: string, info: BundleInfo): Promise<BandScan | undefined> {
  const now = await readBundleInfo(location);
  return now.sizeBytes === info.sizeBytes && now.bandBytes === info.bandBytes ? await scanBands(location, info) : undefined;
}

function countDifferent(before: readonly BandStamp[], now: readonly BandStamp[]): number {
  const rest = new Map(before.map((band) => [band.index, band]));
  let count = 0;
  for (const band of now) {
    const old = rest.get(band.index);
    rest.delete(band.index);
    if (old === undefined || !isSameStamp(old, band)) count++;
  }
  return count + rest.size;
}

function describeStrangers(location: string, strangers: readonly string[]): string[] {
  if (strangers.length === 0) return [];
  const shown = strangers.slice(0, SHOWN_STRANGERS).map((name) => JSON.stringify(name));
  return [
    `${bandsFolder(location)} holds ${strangers.length} file(s) that are no bands, and are left out: ${shown.join(', ')}${strangers.length > shown.length ? ' …' : ''}.`,
  ];
}

/** @throws TimebandError SOURCE_INVALID, LOCKED, TOOL_MISSING, PERMISSION_DENIED, IO_ERROR */
async function openBundle(location: string, context: SourceContext): Promise<SourceView> {
  const lock = await TokenLock.take(path.join(location, 'token'));
  try {
    const info = await readBundleInfo(location);
    const { scan, suspectFromNs } = await look(location, info);
    const { deviceId, folderId, bands } = scan;
    const record = { plistDigest: info.plistDigest, deviceId, folderId, suspectFromNs, bands };
    return new BundleView({ location, info, scan, record, lock, records: BandRecords.of(context) });
  } catch (error) {
    await lock.release();
    throw ioError(error, 'read the bundle', location);
  }
}

/**
 * Looks at the bands. Before that they are made durable: else a power cut could put an older content under times that
 * were recorded for a newer one. What is written while that is done has times that are suspect.
 */
async function look(location: string, info: BundleInfo): Promise<{ scan: BandScan; suspectFromNs: bigint }> {
  const startedNs = BigInt(Date.now()) * NS_PER_MS;
  const isDurable = await syncFileSystem(bandsFolder(location)).then(
    () => true,
    () => false, // then nothing of this look is believed the next time
  );
  const scan = await scanBands(location, info);
  const { type } = await statfs(bandsFolder(location));
  return { scan, suspectFromNs: isDurable ? suspectFrom(startedNs, scan.bands, TRUSTED_FILE_SYSTEMS.has(type)) : 0n };
}

export const bundleDriver: SourceDriver = {
  kind: 'bundle',
  async probe(location): Promise<SourceProbe> {
    const isFolder = (await typeOfLocation(location)) === 'folder';
    if (!isFolder) return { applies: false, reason: 'it is not a folder' };
    return (await isBundle(location))
      ? { applies: true, reason: 'a sparse bundle; what changed is known from the times of its band files' }
      : { applies: false, reason: 'it is a folder without Info.plist' };
  },
  open: openBundle,
  async forget(_location, context) {
    return (await BandRecords.of(context)?.removeOthers(undefined)) ?? [];
  },
};
