/** Which byte ranges differ between two sessions, from bitmaps and indexes alone: no band is read. */
import { TimebandError } from '../bands/errors.ts';
import { Bitmap } from '../bands/format/bitmap.ts';
import { equalBytes } from '../bands/format/bytes.ts';
import { type ByteRange, bandLengthOf, ENTRIES_PER_PAGE, mergeRanges } from '../bands/format/geometry.ts';
import { isSameContent } from '../bands/format/index-page.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';
import { isDamage } from './damage-log.ts';
import type { Volume } from './volume.ts';

export interface SessionDiff {
  readonly volume: string;
  readonly from: string;
  readonly to: string;
  readonly fromBytes: number;
  readonly toBytes: number;
  /** Ranges whose content differs, at the granularity of bands, up to the end of the larger session. */
  readonly ranges: readonly ByteRange[];
  readonly differentBytes: number;
}

/** @throws TimebandError RECORD_MISSING, RECORD_CORRUPT, SESSION_NOT_FOUND */
export async function diffSessions(volume: Volume, fromId: string, toId: string): Promise<SessionDiff> {
  const from = await volume.openSession(fromId);
  const to = await volume.openSession(toId);
  const [older, newer] = fromId <= toId ? [from, to] : [to, from];
  const maybeChanged = await changedBetween(volume, older, newer);
  const larger = from.manifest.sizeBytes >= to.manifest.sizeBytes ? from : to;
  const ranges: ByteRange[] = [];
  for (let page = 0; page < larger.pageCount; page++) {
    for (const bandIndex of await differingBands({ from, to, maybeChanged, bandCount: larger.bandCount }, page)) {
      const { bandBytes } = volume.context;
      ranges.push({ offset: bandIndex * bandBytes, length: bandLengthOf(bandIndex, larger.manifest.sizeBytes, bandBytes) });
    }
  }
  const merged = mergeRanges(ranges);
  return {
    volume: volume.name,
    from: fromId,
    to: toId,
    fromBytes: from.manifest.sizeBytes,
    toBytes: to.manifest.sizeBytes,
    ranges: merged,
    differentBytes: merged.reduce((sum, range) => sum + range.length, 0),
  };
}

/** The bands that any session after `older` up to `newer` changed; undefined where the chain of bases is broken. */
async function changedBetween(volume: Volume, older: SessionDirectory, newer: SessionDirectory): Promise<Bitmap | undefined> {
  const changed = new Bitmap(Math.max(older.bandCount, newer.bandCount));
  const ids = new Set(await volume.sessionIds());
  for (let session = newer; session.sessionId !== older.sessionId; ) {
    const bitmap = await unlessDamaged(session.readBitmap());
    if (bitmap === undefined) return undefined;
    changed.or(bitmap);
    const { base } = session.manifest;
    if (base === undefined || base.sessionId < older.sessionId || !ids.has(base.sessionId)) return undefined;
    const next = await unlessDamaged(volume.openSession(base.sessionId));
    if (next === undefined || !equalBytes(next.manifestDigest, base.manifestDigest)) return undefined;
    if (next.bandCount > session.bandCount) changed.setRange(session.bandCount, next.bandCount); // dropped, and perhaps grown again as zeros
    session = next;
  }
  return changed;
}

/** Undefined: it is damaged, and the indexes have to tell. */
async function unlessDamaged<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  }
}

async function differingBands(
  known: { readonly from: SessionDirectory; readonly to: SessionDirectory; readonly maybeChanged: Bitmap | undefined; readonly bandCount: number },
  page: number,
): Promise<number[]> {
  const first = page * ENTRIES_PER_PAGE;
  const all = Array.from({ length: Math.min(ENTRIES_PER_PAGE, known.bandCount - first) }, (_, i) => i);
  const { maybeChanged } = known;
  const candidates = maybeChanged === undefined ? all : all.filter((i) => maybeChanged.has(first + i));
  if (candidates.length === 0) return [];
  const [a, b] = await Promise.all([entriesOf(known.from, page), entriesOf(known.to, page)]);
  return candidates.filter((i) => !isSameContent(a, b, i)).map((i) => first + i);
}

async function entriesOf(session: SessionDirectory, page: number): Promise<Uint8Array> {
  return page < session.pageCount ? await session.readPage(page) : new Uint8Array(0);
}

/** Splits `NAME@A NAME@B` into one volume and two sessions. @throws TimebandError USAGE */
export function checkSameVolume(a: string, b: string): void {
  if (a !== b) throw new TimebandError(`diff compares two sessions of one volume, not "${a}" with "${b}".`, { code: 'USAGE' });
}
