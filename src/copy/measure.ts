/** What a copy would write, from indexes alone. */
import { entryCount, isSameContent, isSameEntry, type PageEntries, readEntry } from '../../bands/format/index-page.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { pageOf } from '../sync/session-pages.ts';
import type { Volume } from '../volume.ts';
import type { VolumePlan } from './plan.ts';

export interface MeasuredSession {
  readonly session: string;
  /** Bands that no session there has, and their bytes as the source stores them. */
  readonly newBands: number;
  readonly newBytes: number;
  readonly linkedBands: number;
}

type IsSame = (wanted: PageEntries, there: PageEntries, i: number) => boolean;

/** Goes through the sessions as a copy would: one that is copied earlier is there for those after it. */
export async function measureCopy(plan: VolumePlan, hasSameKeys: boolean): Promise<MeasuredSession[]> {
  const there = new Map<string, Volume>();
  for (const id of (await plan.target?.sessionIds()) ?? []) if (plan.target !== undefined) there.set(id, plan.target);
  const measured: MeasuredSession[] = [];
  for (const id of plan.missing) {
    const ids = [...there.keys()].sort();
    const neighbours = [ids.findLast((one) => one < id), ids.find((one) => one > id)];
    const opened: { session: SessionDirectory; isSame: IsSame }[] = [];
    for (const neighbour of neighbours) {
      const volume = neighbour === undefined ? undefined : there.get(neighbour);
      if (neighbour === undefined || volume === undefined) continue;
      opened.push({ session: await volume.openSession(neighbour), isSame: hasSameKeys || volume === plan.source ? isSameEntry : isSameContent });
    }
    measured.push({ session: id, ...(await countNew(await plan.source.openSession(id), opened)) });
    there.set(id, plan.source);
  }
  return measured;
}

async function countNew(
  session: SessionDirectory,
  neighbours: readonly { readonly session: SessionDirectory; readonly isSame: IsSame }[],
): Promise<Omit<MeasuredSession, 'session'>> {
  let [newBands, newBytes, linkedBands] = [0, 0, 0];
  for (let page = 0; page < session.pageCount; page++) {
    const wanted = await session.readPage(page);
    const others: { isSame: IsSame; entries: PageEntries }[] = [];
    for (const { session: other, isSame } of neighbours) others.push({ isSame, entries: await pageOf(other, page) });
    for (let i = 0; i < entryCount(wanted); i++) {
      const band = readEntry(wanted, i);
      if (band === undefined) continue;
      if (others.some(({ isSame, entries }) => isSame(wanted, entries, i))) linkedBands++;
      else {
        newBands++;
        newBytes += band.fileBytes;
      }
    }
  }
  return { newBands, newBytes, linkedBands };
}
