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
import type { SharedBands } from '../sync/shared-bands.ts';
import { PROGRAM } from '../version.ts';
import type { Volume } from '../volume.ts';
import { BandCopy, type CopyCounts, interruptedCopy } from './copy-bands.ts';
import { type Neighbour, openIfWhole } from './neighbour.ts';

const PAGES_AT_ONCE = 2;

export interface SessionCopyInput {
  /** The volume that it comes from. */
  readonly from: Volume;
  readonly source: SessionDirectory;
  /** The volume that it goes to, whose lock is held. */
  readonly target: Volume;
  readonly hasSameKeys: boolean;
  /** Salts of bands on the target's damaged list. */
  readonly listed: ReadonlySet<string>;
  /** What the volumes of the target's key domain hold. */
  readonly shared: SharedBands | undefined;
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

/** By age. */
interface Neighbours {
  readonly before: Neighbour | undefined;
  readonly after: Neighbour | undefined;
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
  const { source, hasSameKeys } = input;
  const { before, after } = await neighboursOf(input);
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
  for (const neighbour of [before?.session, after?.session]) {
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
  input: SessionCopyInput,
  { bands, incoming, ...beside }: Pick<Neighbours, 'before'> & { readonly bands: BandCopy; readonly incoming: Incoming },
): Promise<void> {
  const { source, target, catalog } = input;
  const before = beside.before?.session;
  const index = new SessionPages(source.bandCount, before);
  const counts: IndexCounts = { zeroBands: 0, changedBands: 0, storedBytes: 0 };
  await forEachPage(input, async (page) => {
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
async function neighboursOf({ from, source, target }: SessionCopyInput): Promise<Neighbours> {
  const ids = await target.sessionIds();
  const { sessionId } = source;
  const before = ids.filter((id) => id < sessionId).toReversed();
  const after = ids.filter((id) => id > sessionId);
  return { before: await firstWhole(from, target, before), after: await firstWhole(from, target, after) };
}

async function firstWhole(from: Volume, target: Volume, ids: readonly string[]): Promise<Neighbour | undefined> {
  for (const id of ids) {
    const session = await openIfWhole(target, id);
    if (session !== undefined) return { session, original: await openIfWhole(from, id) };
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
