/**
 * A volume drawn from above: which bands hold data, which a session changed, and how often each changed over all
 * sessions. From manifests, indexes and bitmaps alone: no band is read.
 */
import { messageOf, TimebandError } from '../bands/errors.ts';
import { Bitmap } from '../bands/format/bitmap.ts';
import { bandLengthOf, ENTRIES_PER_PAGE } from '../bands/format/geometry.ts';
import { entryCount, isZeroEntry } from '../bands/format/index-page.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';
import type { Volume } from './volume.ts';

export interface VolumeMap {
  readonly volume: string;
  readonly session: string;
  /** The session that this one's changes count from; undefined: it is a first session, all of whose data is new. */
  readonly base: string | undefined;
  readonly sizeBytes: number;
  readonly bandBytes: number;
  readonly bandCount: number;
  /** Bands that are not all zeros in the session. */
  readonly data: Bitmap;
  /** Bands that differ from the base's. */
  readonly changed: Bitmap;
  /** For each band of the session: how many of `sessions` changed it. */
  readonly changes: Uint32Array;
  /** All sessions that have a base, oldest first: those whose changes are counted. */
  readonly sessions: readonly string[];
  /** Damaged sessions, which are not counted. */
  readonly skipped: readonly { readonly session: string; readonly message: string }[];
}

/** A run of bands of which all is the same. */
export interface MapRun {
  readonly offset: number;
  readonly length: number;
  readonly hasData: boolean;
  readonly isChanged: boolean;
  readonly changes: number;
}

/** @throws TimebandError RECORD_MISSING, RECORD_CORRUPT if the session itself is damaged */
export async function mapVolume(volume: Volume, sessionId: string): Promise<VolumeMap> {
  const session = await volume.openSession(sessionId);
  const { manifest, bandCount } = session;
  const changes = new Uint32Array(bandCount);
  const sessions: string[] = [];
  const skipped: { session: string; message: string }[] = [];
  for (const id of await volume.sessionIds()) {
    const bitmap = await changesOf(volume, id).catch((error: unknown) => {
      if (!(error instanceof TimebandError)) throw error;
      skipped.push({ session: id, message: messageOf(error) });
      return undefined;
    });
    if (bitmap === undefined) continue;
    sessions.push(id);
    for (const i of bitmap) if (i < bandCount) changes[i] = (changes[i] ?? 0) + 1;
  }
  return {
    volume: volume.name,
    session: sessionId,
    base: manifest.base?.sessionId,
    sizeBytes: manifest.sizeBytes,
    bandBytes: manifest.bandBytes,
    bandCount,
    data: await bandsWithData(session),
    changed: await session.readBitmap(),
    changes,
    sessions,
    skipped,
  };
}

/** What a session changed; undefined for a first session, which changed nothing that was there. */
async function changesOf(volume: Volume, id: string): Promise<Bitmap | undefined> {
  const session = await volume.openSession(id);
  return session.manifest.base === undefined ? undefined : await session.readBitmap();
}

async function bandsWithData(session: SessionDirectory): Promise<Bitmap> {
  const data = new Bitmap(session.bandCount);
  for (let page = 0; page < session.pageCount; page++) {
    const entries = await session.readPage(page);
    for (let i = 0; i < entryCount(entries); i++) if (!isZeroEntry(entries, i)) data.set(page * ENTRIES_PER_PAGE + i);
  }
  return data;
}

/** Bytes of the volume that lie in the bands of a bitmap. */
export function bytesIn(bands: Iterable<number>, { sizeBytes, bandBytes }: Pick<VolumeMap, 'sizeBytes' | 'bandBytes'>): number {
  let bytes = 0;
  for (const i of bands) bytes += bandLengthOf(i, sizeBytes, bandBytes);
  return bytes;
}

/** The map as runs, in order and without gaps. */
export function mapRuns(map: VolumeMap): MapRun[] {
  const runs: { offset: number; length: number; hasData: boolean; isChanged: boolean; changes: number }[] = [];
  for (let i = 0; i < map.bandCount; i++) {
    const one = { hasData: map.data.has(i), isChanged: map.changed.has(i), changes: map.changes[i] ?? 0 };
    const length = bandLengthOf(i, map.sizeBytes, map.bandBytes);
    const last = runs.at(-1);
    if (last?.hasData === one.hasData && last.isChanged === one.isChanged && last.changes === one.changes) last.length += length;
    else runs.push({ offset: i * map.bandBytes, length, ...one });
  }
  return runs;
}
