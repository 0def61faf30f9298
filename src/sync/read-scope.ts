/**
 * Which bands a sync reads: all of them, or those that the source names as changed and a random sample of the others.
 * The sample is an audit: a band in it that did change shows that the source cannot be trusted.
 */
import { randomInt } from 'node:crypto';
import { Bitmap } from '../../bands/format/bitmap.ts';
import { bandCountOf } from '../../bands/format/geometry.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { ChangeSet } from '../sources/source.ts';

/** Bands that are read although the source calls them unchanged. */
const AUDITED_BANDS = 16;

export interface ReadScope {
  /** Bands that may differ from the base, by the source's word; undefined: it gave none. */
  readonly claimed: Bitmap | undefined;
  /** Bands to read; undefined: all. */
  readonly candidates: Bitmap | undefined;
}

export interface ScopeInput {
  readonly changes: ChangeSet;
  readonly base: SessionDirectory | undefined;
  readonly sizeBytes: number;
  readonly bandBytes: number;
  /** Bands whose file in the base is damaged: they are read whatever the source says. */
  readonly damagedInBase: Bitmap | undefined;
  /** Read all bands, and compare with the source's word. */
  readonly readsAll: boolean;
}

export function readScope(input: ScopeInput): ReadScope {
  const claimed = claimedBands(input);
  if (claimed === undefined || input.readsAll) return { claimed, candidates: undefined };
  const candidates = new Bitmap(claimed.size, claimed.encode().slice());
  if (input.damagedInBase !== undefined) candidates.or(input.damagedInBase);
  for (let i = 0; i < Math.min(AUDITED_BANDS, claimed.size); i++) candidates.set(randomInt(claimed.size));
  return { claimed, candidates };
}

/** How many bands changed without being named. */
export function missedBands({ claimed }: ReadScope, changed: Bitmap): number {
  if (claimed === undefined) return 0;
  let missed = 0;
  for (const i of changed) if (!claimed.has(i)) missed++;
  return missed;
}

/** The bands that may differ from the base, by the source's word and by its size; undefined: it gives none. */
export function claimedBands({ changes, base, sizeBytes, bandBytes }: Omit<ScopeInput, 'readsAll' | 'damagedInBase'>): Bitmap | undefined {
  if (!changes.isKnown || base === undefined) return undefined;
  const claimed = new Bitmap(bandCountOf(sizeBytes, bandBytes));
  for (const { offset, length } of changes.ranges) {
    if (length > 0) claimed.setRange(Math.floor(offset / bandBytes), Math.ceil((offset + length) / bandBytes));
  }
  // Another size: what lies behind the old or the new end within its band changed, too, whatever the source says of it.
  const oldSize = base.manifest.sizeBytes;
  if (oldSize !== sizeBytes) claimed.setRange(Math.floor(Math.min(oldSize, sizeBytes) / bandBytes), claimed.size);
  return claimed;
}
