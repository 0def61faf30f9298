/** What a copy would write, from indexes alone. */
import { entryCount, readEntry } from '../../bands/format/index-page.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { type Neighbour, neighbourPage, openIfWhole } from './neighbour.ts';
import type { VolumePlan } from './plan.ts';

export interface MeasuredSession {
  readonly session: string;
  /** Bands that no session there has, and their bytes as the source stores them. */
  readonly newBands: number;
  readonly newBytes: number;
  readonly linkedBands: number;
}

/** A neighbour, and whether its bands were sealed as those of the session to be copied. */
type MeasuredNeighbour = Neighbour & { readonly hasSameSeals: boolean };

/** Goes through the sessions as a copy would: one that is copied earlier is there for those after it. */
export async function measureCopy({ source, target, missing }: VolumePlan, hasSameKeys: boolean): Promise<MeasuredSession[]> {
  const present = new Set((await target?.sessionIds()) ?? []);
  const measured: MeasuredSession[] = [];
  for (const [i, id] of missing.entries()) {
    const planned = missing.slice(0, i);
    const ids = [...present, ...planned].sort();
    const neighbours: MeasuredNeighbour[] = [];
    for (const neighbour of [ids.findLast((one) => one < id), ids.find((one) => one > id)]) {
      const original = await openIfWhole(source, neighbour);
      const session = neighbour !== undefined && present.has(neighbour) && target !== undefined ? await openIfWhole(target, neighbour) : original;
      if (session !== undefined) neighbours.push({ session, original, hasSameSeals: hasSameKeys || session === original });
    }
    measured.push({ session: id, ...(await countNew(await source.openSession(id), neighbours)) });
  }
  return measured;
}

async function countNew(session: SessionDirectory, neighbours: readonly MeasuredNeighbour[]): Promise<Omit<MeasuredSession, 'session'>> {
  let [newBands, newBytes, linkedBands] = [0, 0, 0];
  for (let page = 0; page < session.pageCount; page++) {
    const wanted = await session.readPage(page);
    const pages = await Promise.all(neighbours.map((neighbour) => neighbourPage(neighbour, page, neighbour.hasSameSeals)));
    for (let i = 0; i < entryCount(wanted); i++) {
      const band = readEntry(wanted, i);
      if (band === undefined) continue;
      if (pages.some(({ isShared }) => isShared(wanted, i))) linkedBands++;
      else {
        newBands++;
        newBytes += band.fileBytes;
      }
    }
  }
  return { newBands, newBytes, linkedBands };
}
