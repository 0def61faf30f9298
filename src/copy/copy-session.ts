/** One session's way into another repository: bands, index pages, records, labels, and the one rename that commits it. */
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { type Labels, NO_LABELS } from '../../bands/format/labels.ts';
import { parseSessionId } from '../../bands/format/session-id.ts';
import { writeNewFile } from '../../bands/store/files.ts';
import { linkOrCopy } from '../../bands/store/link-file.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import type { Catalog } from '../catalog.ts';
import { writeIndexRecords, writeLabels } from '../sync/commit.ts';
import { clearIncoming, Incoming } from '../sync/incoming.ts';
import { type IndexCounts, SessionPages } from '../sync/session-pages.ts';
import { PROGRAM } from '../version.ts';
import type { Volume } from '../volume.ts';
import { BandCopy, type CopyCounts, interruptedCopy } from './copy-bands.ts';

const PAGES_AT_ONCE = 2;

export interface SessionCopyInput {
  readonly source: SessionDirectory;
  /** The volume that it goes to, whose lock is held. */
  readonly target: Volume;
  readonly hasSameKeys: boolean;
  readonly pool: BandPool;
  /** Of the target. */
  readonly catalog: Catalog | undefined;
  readonly signal: AbortSignal | undefined;
  /** Told of bands as they are done, and of bytes as they are read. */
  readonly onBands: (bands: number, readBytes: number) => void;
}

export interface CopiedSession {
  readonly counts: CopyCounts;
  readonly warnings: readonly string[];
}

/** The sessions of the target that stand beside a new one by age. */
interface Neighbours {
  readonly before: SessionDirectory | undefined;
  readonly after: SessionDirectory | undefined;
}

/**
 * Copies one session, whole or not at all. What an interrupted or killed run has written stays for the next one; any other
 * failure leaves nothing behind.
 * @throws TimebandError BAND_*, RECORD_* (the session is damaged), NO_SPACE, IO_ERROR, INTERRUPTED
 */
export async function copySession(input: SessionCopyInput): Promise<CopiedSession> {
  const { source, target, signal } = input;
  await clearIncoming(target, source.sessionId);
  const incoming = await Incoming.resume(target, source.sessionId);
  try {
    const counts = await writeSession(input, incoming);
    const { labels, warnings } = await takeLabels(source);
    await writeLabels(incoming, source.sessionId, labels);
    if (signal?.aborted === true) throw interruptedCopy();
    await incoming.commit(source.sessionId);
    return { counts, warnings };
  } catch (error) {
    if (signal?.aborted === true) throw interruptedCopy(); // whatever failed because of it: what is written stays for the next run
    await incoming.discard();
    throw error;
  }
}

async function writeSession(input: SessionCopyInput, incoming: Incoming): Promise<CopyCounts> {
  const { source, target, hasSameKeys } = input;
  const { before, after } = await neighboursOf(target, source.sessionId);
  const bands = new BandCopy({
    ...input,
    incoming,
    neighbours: [before, after].filter((one) => one !== undefined),
    isResumed: await incoming.hasBands(),
    sessionMs: parseSessionId(source.sessionId) ?? source.manifest.startedMs,
  });
  if (hasSameKeys) await copyAsItIs(input, { bands, incoming, before, after });
  else await sealAnew(input, { bands, incoming, before });
  return bands.counts;
}

async function forEachPage({ source, signal }: SessionCopyInput, run: (page: number) => Promise<void>): Promise<void> {
  const pages = Array.from({ length: source.pageCount }, (_, i) => i);
  await forEachBounded(pages, PAGES_AT_ONCE, async (page) => {
    if (signal?.aborted === true) throw interruptedCopy();
    await run(page);
  });
}

/** Under the same keys the whole session is the same bytes: what the manifest pins stays pinned, its base included. */
async function copyAsItIs(
  input: SessionCopyInput,
  { bands, incoming, ...beside }: Neighbours & { readonly bands: BandCopy; readonly incoming: Incoming },
): Promise<void> {
  const { source } = input;
  await forEachPage(input, async (page) => {
    await bands.copyPage(page);
    const file = incoming.pagePath(page);
    if (await linkPage(source, beside, { page, file })) return;
    await writeNewFile(file, await source.readSealed({ page }), { isDurable: false });
  });
  for (const record of ['bitmap', 'manifest'] as const)
    await writeNewFile(incoming.recordPath(record), await source.readSealed(record), { isDurable: false });
}

/** Links an index page from a neighbour that has the same. */
async function linkPage(
  source: SessionDirectory,
  { before, after }: Neighbours,
  { page, file }: { readonly page: number; readonly file: string },
): Promise<boolean> {
  const wanted = source.manifest.pageDigests[page];
  for (const neighbour of [before, after]) {
    const there = neighbour?.manifest.pageDigests[page];
    if (neighbour === undefined || wanted === undefined || there === undefined || !equalBytes(there, wanted)) continue;
    if ((await neighbour.isPageFileIntact(page)) && linkOrCopy(neighbour.pagePath(page), file) !== 'missing') return true;
  }
  return false;
}

/**
 * Under other keys, index and records are made anew. The base is the session before it in the target, whichever it was in
 * the source, and the bitmap says what differs from that one: so both are true whatever was copied, and in which order.
 */
async function sealAnew(
  { source, target, catalog, ...input }: SessionCopyInput,
  { bands, incoming, before }: Pick<Neighbours, 'before'> & { readonly bands: BandCopy; readonly incoming: Incoming },
): Promise<void> {
  const index = new SessionPages(source.bandCount, before);
  const counts: IndexCounts = { zeroBands: 0, changedBands: 0, storedBytes: 0 };
  await forEachPage({ source, target, catalog, ...input }, async (page) => {
    const entries = await bands.copyPage(page);
    index.count(page, entries, { base: await index.basePage(page), counts });
    await index.write(page, entries, incoming);
  });
  const base = before === undefined ? undefined : { sessionId: before.sessionId, manifestDigest: before.manifestDigest };
  const { writtenBytes } = bands.counts;
  const totals = { ...source.manifest.totals, ...counts, writtenBytes };
  await writeIndexRecords(incoming, index, { ...source.manifest, volumeId: target.context.volumeId, base, totals, program: PROGRAM });
  await catalog?.rememberPages(target.id, index.newPages);
}

/** The nearest sessions before and after that can be opened: one that is damaged is no reason to copy nothing. */
async function neighboursOf(target: Volume, sessionId: string): Promise<Neighbours> {
  const ids = await target.sessionIds();
  return {
    before: await firstWhole(target, ids.filter((id) => id < sessionId).toReversed()),
    after: await firstWhole(
      target,
      ids.filter((id) => id > sessionId),
    ),
  };
}

async function firstWhole(target: Volume, ids: readonly string[]): Promise<SessionDirectory | undefined> {
  for (const id of ids) {
    try {
      return await target.openSession(id);
    } catch (error) {
      if (!(error instanceof TimebandError) || !error.code.startsWith('RECORD_')) throw error;
    }
  }
  return undefined;
}

/** What people said of the session. That it was once found whole is not said of the copy: nobody has read that. */
async function takeLabels(source: SessionDirectory): Promise<{ readonly labels: Labels; readonly warnings: readonly string[] }> {
  try {
    return { labels: { ...(await source.readLabels()), verified: undefined }, warnings: [] };
  } catch (error) {
    if (!(error instanceof TimebandError) || error.code !== 'RECORD_CORRUPT') throw error;
    return { labels: NO_LABELS, warnings: [`session ${source.sessionId} was copied without tags, note and protection: ${error.message}`] };
  }
}
