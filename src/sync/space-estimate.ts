/**
 * What a session takes of the repository's disk: at the least, and likely. Pure. Known is the least; the rest is a guess, because
 * bands compress and a source may name too much.
 */
import { type ByteRange, bandCountOf, ENTRIES_PER_PAGE, pageCountOf } from '../../bands/format/geometry.ts';
import { ENTRY_BYTES } from '../../bands/format/index-page.ts';
import type { Manifest } from '../../bands/format/manifest.ts';
import type { Padding } from '../../bands/format/padding.ts';
import { RECORD_OVERHEAD_BYTES } from '../../bands/format/record.ts';

/** What a file's or folder's entry takes in a folder: a name of 32 digits and a number at the least; half as much again as folders are filled. */
const LEAST_ENTRY_BYTES = 40;
const LIKELY_ENTRY_BYTES = 64;
/** The folder of the session that is written, and its bands/ and index/. They are made whatever the sync finds. */
const FOLDERS = 3;
/** Manifest and bitmap. */
const RECORDS = 2;
/** A manifest without its digests of pages, and one of those, in JSON. */
const MANIFEST_BYTES = 500;
const PAGE_DIGEST_BYTES = 64;
/** A file takes half a block more than it holds, on average. */
const LIKELY_SLACK_BYTES = 2048;

/** Bytes, and files and folders that are new (a link to a file there is takes no inode). */
export interface SpaceNeed {
  readonly bytes: number;
  readonly inodes: number;
}

/** What is to become a session, as far as it is known before it is read. */
export interface SpaceInput {
  readonly sizeBytes: number;
  readonly bandBytes: number;
  readonly padding: Padding | undefined;
  /** Of the base. */
  readonly base: Pick<Manifest, 'sizeBytes' | 'totals'> | undefined;
  /** A session is made even if nothing changed. */
  readonly isForced: boolean;
  /** Bands to read; undefined: all. What is not read is linked. */
  readonly candidates: number | undefined;
  /** Bands that the source names as changed; undefined: it does not know. */
  readonly claimed: number | undefined;
  /** Where data is; undefined: not known. */
  readonly data: readonly ByteRange[] | undefined;
}

export interface SpaceEstimate {
  readonly least: SpaceNeed;
  /** Of bands, what a base leads to expect of the source's word; nothing where the source does not know. */
  readonly likely: SpaceNeed;
}

/** Band files that are new. */
export interface NewBands {
  readonly bands: number;
  readonly bytes: number;
}

const FOLDERS_NEED: SpaceNeed = { bytes: 0, inodes: FOLDERS };

/** What is known before anything is read. */
export function estimateSpace(input: SpaceInput): SpaceEstimate {
  const least = isSure(input) ? add(FOLDERS_NEED, leastRecords(input)) : FOLDERS_NEED;
  const isLikely = isSure(input) || input.claimed !== 0;
  return { least, likely: isLikely ? sessionNeed(input, input.base === undefined ? firstBands(input) : namedBands(input, input.base)) : least };
}

/** What a session takes whose new bands are known. */
export function sessionNeed(input: SpaceInput, stored: NewBands): SpaceNeed {
  return add(FOLDERS_NEED, likelyRecords(input, stored), { bytes: stored.bytes, inodes: stored.bands });
}

function isSure({ base, isForced, sizeBytes }: SpaceInput): boolean {
  return base === undefined || isForced || base.sizeBytes !== sizeBytes;
}

function add(...needs: readonly SpaceNeed[]): SpaceNeed {
  return needs.reduce((sum, { bytes, inodes }) => ({ bytes: sum.bytes + bytes, inodes: sum.inodes + inodes }), { bytes: 0, inodes: 0 });
}

/** A first session has all its index pages; another one links those that did not change, and the bands that are not even read. */
function leastRecords({ sizeBytes, bandBytes, base, candidates }: SpaceInput): SpaceNeed {
  const bands = bandCountOf(sizeBytes, bandBytes);
  const pages = pageCountOf(bands);
  const links = base === undefined || candidates === undefined ? 0 : leastLinks(base.totals, { bands, candidates });
  const records = Math.ceil(bands / 8) + MANIFEST_BYTES + pages * PAGE_DIGEST_BYTES;
  const index = base === undefined ? bands * ENTRY_BYTES + pages * RECORD_OVERHEAD_BYTES : 0;
  return { bytes: records + index + (links + pages) * LEAST_ENTRY_BYTES, inodes: RECORDS + (base === undefined ? pages : 0) };
}

/** Bands of the base that stay, whatever is read: those that are not behind the new end, and no candidates. */
function leastLinks({ bands: oldBands, zeroBands }: Manifest['totals'], now: { readonly bands: number; readonly candidates: number }): number {
  return Math.max(0, oldBands - zeroBands - Math.max(0, oldBands - now.bands) - now.candidates);
}

function likelyRecords({ sizeBytes, bandBytes, base }: SpaceInput, stored: NewBands): SpaceNeed {
  const bands = bandCountOf(sizeBytes, bandBytes);
  const entries = Math.max(stored.bands, base === undefined ? 0 : base.totals.bands - base.totals.zeroBands);
  const pages = base === undefined ? pageCountOf(bands) : Math.min(pageCountOf(bands), stored.bands);
  const records = Math.ceil(bands / 8) + MANIFEST_BYTES + pageCountOf(bands) * PAGE_DIGEST_BYTES;
  const index = pages * Math.min(bands, ENTRIES_PER_PAGE) * ENTRY_BYTES;
  const inodes = pages + RECORDS;
  return { bytes: records + index + entries * LIKELY_ENTRY_BYTES + (inodes + stored.bands) * LIKELY_SLACK_BYTES, inodes };
}

/** The bands that the source names, as small as the base's became; none where it does not know. */
function namedBands({ bandBytes, claimed = 0 }: SpaceInput, { totals }: Pick<Manifest, 'totals'>): NewBands {
  const bands = totals.bands - totals.zeroBands;
  const bytesEach = bands === 0 ? bandBytes : Math.min(bandBytes, totals.storedBytes / bands);
  return { bands: claimed, bytes: Math.ceil(claimed * bytesEach) };
}

/** All data, as if nothing could be compressed: of a first session, nobody knows better. Buckets take what they are. */
function firstBands({ sizeBytes, bandBytes, padding, data = [{ offset: 0, length: sizeBytes }] }: SpaceInput): NewBands {
  let [bands, bytes, next] = [0, 0, 0];
  for (const { offset, length } of data) {
    if (length === 0) continue;
    const first = Math.max(next, Math.floor(offset / bandBytes));
    next = Math.ceil((offset + length) / bandBytes);
    bands += Math.max(0, next - first);
    bytes += length;
  }
  const bucketBytes = typeof padding === 'number' ? bands * padding : 0;
  return { bands, bytes: Math.max(bytes, Math.min(bytes + bucketBytes, bands * bandBytes)) };
}
