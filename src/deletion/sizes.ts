/**
 * What deleting a session frees. A band's file is shared by a run of sessions, each linked from the one before, and an
 * index entry names one file (its salt is random): so a file is a session's own if neither the session before nor the one
 * after has the same entry. Only index pages are compared, and only those that differ.
 */
import { equalBytes } from '../../bands/format/bytes.ts';
import { entryCount, isSameEntry, isZeroEntry, type PageEntries, readEntry } from '../../bands/format/index-page.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';

const NOTHING: PageEntries = new Uint8Array(0);

/** Bytes of the band files that `session` has and neither `before` nor `after` has. @throws TimebandError RECORD_* */
export async function exclusiveBytes(
  session: SessionDirectory,
  neighbours: { readonly before: SessionDirectory | undefined; readonly after: SessionDirectory | undefined },
): Promise<number> {
  const { before, after } = neighbours;
  let bytes = 0;
  for (let page = 0; page < session.pageCount; page++) {
    if (hasSamePage(session, before, page) || hasSamePage(session, after, page)) continue;
    const entries = await session.readPage(page);
    const [older, newer] = [await pageOf(before, page), await pageOf(after, page)];
    for (let i = 0; i < entryCount(entries); i++) {
      if (isZeroEntry(entries, i) || isSameEntry(entries, older, i) || isSameEntry(entries, newer, i)) continue;
      bytes += readEntry(entries, i)?.fileBytes ?? 0;
    }
  }
  return bytes;
}

function hasSamePage(a: SessionDirectory, b: SessionDirectory | undefined, page: number): boolean {
  const [one, other] = [a.manifest.pageDigests[page], b?.manifest.pageDigests[page]];
  return one !== undefined && other !== undefined && equalBytes(one, other);
}

async function pageOf(session: SessionDirectory | undefined, page: number): Promise<PageEntries> {
  return session === undefined || page >= session.pageCount ? NOTHING : await session.readPage(page);
}
