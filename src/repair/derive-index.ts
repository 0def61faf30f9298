/** What bitmaps and index pages must have said, from what else there is. Only a guess until it is sealed and has the digest that the manifest pins. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { errnoOf, ioError } from '../../bands/errors.ts';
import { BAND_MAGIC, SALT_BYTES } from '../../bands/format/band-header.ts';
import { Bitmap } from '../../bands/format/bitmap.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { ENTRIES_PER_PAGE, entriesInPage } from '../../bands/format/geometry.ts';
import { ENTRY_BYTES, isSameContent, type PageEntries, readEntry, type StoredBand, writeEntry } from '../../bands/format/index-page.ts';
import { statIfPresentSync } from '../../bands/store/files.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import type { BandKeyMaterial } from '../../bands/workers/tasks.ts';
import type { Volume } from '../volume.ts';
import { isLost } from './band-files.ts';

/** Where a band file's salt ends. */
const SALT_END = BAND_MAGIC.length + SALT_BYTES;

/** The bands in which a session differs from its base; undefined if an index is lost, or the base is gone. */
export async function deriveBitmap(volume: Volume, session: SessionDirectory): Promise<Uint8Array | undefined> {
  const { base: baseRecord } = session.manifest;
  const base = baseRecord === undefined ? undefined : await volume.openSession(baseRecord.sessionId).catch(() => undefined);
  if (baseRecord !== undefined && (base === undefined || !equalBytes(base.manifestDigest, baseRecord.manifestDigest))) return undefined;
  const bitmap = new Bitmap(session.bandCount);
  try {
    for (let page = 0; page < session.pageCount; page++) {
      const entries = await session.readPage(page);
      const before = base !== undefined && page < base.pageCount ? await base.readPage(page) : new Uint8Array(0);
      for (let i = 0; i < entriesInPage(page, session.bandCount); i++)
        if (!isSameContent(before, entries, i)) bitmap.set(page * ENTRIES_PER_PAGE + i);
    }
  } catch (error) {
    if (isLost(error)) return undefined;
    throw error;
  }
  return bitmap.encode();
}

/**
 * The entries of a page, from the band files: each says its salt and decodes to its digest. What a damaged or missing one must be,
 * may stand in the index of the session before or after. Undefined if that does not tell, either.
 */
export async function derivePage(
  { volume, pool }: { readonly volume: Volume; readonly pool: BandPool },
  session: SessionDirectory,
  page: number,
): Promise<PageEntries | undefined> {
  const count = entriesInPage(page, session.bandCount);
  const entries = new Uint8Array(count * ENTRY_BYTES);
  const keys = shareBandKeys(session.context);
  const neighbours = await neighboursOf(volume, session, page);
  let unknown = 0;
  await forEachBounded(session.bandPaths(page * ENTRIES_PER_PAGE, count).entries(), pool.capacity, async ([i, file]) => {
    if (unknown > 0) return;
    const isMissing = statIfPresentSync(file) === undefined;
    if (isMissing) writeEntry(entries, i, unchangedEntry(neighbours, page, i));
    else {
      const band = (await describeBand({ pool, keys }, file)) ?? entryOf(file, neighbours, i);
      if (band === undefined) unknown++;
      else writeEntry(entries, i, band);
    }
  });
  return unknown === 0 ? entries : undefined;
}

/** A session beside another one. */
interface Neighbour {
  readonly entries: PageEntries;
  /** What changed between the two; undefined: nobody knows. */
  readonly changed: Bitmap | undefined;
}

async function neighboursOf(volume: Volume, session: SessionDirectory, page: number): Promise<Neighbour[]> {
  const ids = await volume.sessionIds();
  const at = ids.indexOf(session.sessionId);
  const neighbours: Neighbour[] = [];
  for (const id of [ids[at - 1], ids[at + 1]]) {
    const one = id === undefined ? undefined : await volume.openSession(id).catch(() => undefined);
    const entries = one === undefined || page >= one.pageCount ? undefined : await one.readPage(page).catch(() => undefined);
    if (one === undefined || entries === undefined) continue;
    const [older, newer] = one.sessionId < session.sessionId ? [one, session] : [session, one];
    const isBase = newer.manifest.base?.sessionId === older.sessionId;
    neighbours.push({ entries, changed: isBase ? await newer.readBitmap().catch(() => undefined) : undefined });
  }
  return neighbours;
}

/** What a band without a file must be: as beside it, if it did not change; else zeros. */
function unchangedEntry(neighbours: readonly Neighbour[], page: number, i: number): StoredBand | undefined {
  const same = neighbours.find(({ changed }) => changed !== undefined && !changed.has(page * ENTRIES_PER_PAGE + i));
  return same === undefined ? undefined : readEntry(same.entries, i);
}

async function describeBand(
  { pool, keys }: { readonly pool: BandPool; readonly keys: BandKeyMaterial },
  file: string,
): Promise<StoredBand | undefined> {
  try {
    return await pool.run('describeBand', { keys, file });
  } catch (error) {
    if (isLost(error)) return undefined;
    throw error;
  }
}

/** The entry that names the sealing of a damaged file, by the salt in its first bytes. */
function entryOf(file: string, neighbours: readonly Neighbour[], i: number): StoredBand | undefined {
  const start = new Uint8Array(SALT_END);
  withRegularFile(file, (fd) => readSync(fd, start, 0, start.length, 0));
  const salt = start.subarray(SALT_END - SALT_BYTES);
  return neighbours.map(({ entries }) => readEntry(entries, i)).find((band) => band !== undefined && equalBytes(band.salt, salt));
}

function withRegularFile(file: string, use: (fd: number) => void): void {
  try {
    const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      use(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (!isLost(ioError(error, 'read the band file', file)) && errnoOf(error) !== 'ELOOP') throw ioError(error, 'read the band file', file);
  }
}
