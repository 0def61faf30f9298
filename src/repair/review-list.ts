/** Looking again at the bands of a damaged list. */
import { TimebandError } from '../../bands/errors.ts';
import type { DamagedBand } from '../../bands/format/damaged-list.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { changeDamagedList, readDamagedList, saltName } from '../damaged-bands.ts';
import { isUnwritable } from '../leases.ts';
import type { Repository } from '../repository.ts';
import type { Volume } from '../volume.ts';
import { BandRepair } from './band-repair.ts';

export interface ReviewedList {
  readonly remaining: readonly DamagedBand[];
  /** How many bands are whole again, or no session has them any more. */
  readonly cleared: number;
  readonly warnings: readonly string[];
}

/** Takes off the list what is whole. A repository that cannot be written to keeps its list. @throws TimebandError RECORD_CORRUPT (the list) */
export async function reviewDamagedList(repository: Repository, volume: Volume, pool: BandPool): Promise<ReviewedList> {
  const list = await readDamagedList(volume);
  if (list.length === 0) return { remaining: [], cleared: 0, warnings: [] };
  const repair = new BandRepair({ volume, pool, keys: shareBandKeys(volume.context) });
  const remaining: DamagedBand[] = [];
  for (const one of list) if ((await repair.repair(one)).status !== 'whole') remaining.push(one);
  const whole = list.filter((one) => !remaining.includes(one));
  if (whole.length === 0) return { remaining, cleared: 0, warnings: [] };
  try {
    await takeOffList(repository, volume, whole);
    return { remaining, cleared: whole.length, warnings: [] };
  } catch (error) {
    if (isUnwritable(error)) return { remaining, cleared: 0, warnings: [] };
    if (!(error instanceof TimebandError)) throw error;
    return {
      remaining,
      cleared: 0,
      warnings: [`${whole.length} band(s) are whole again and could not be taken off the damaged list: ${error.message}`],
    };
  }
}

/** Takes bands off the list of a volume. @throws TimebandError LOCKED, RECORD_CORRUPT, NO_SPACE */
export async function takeOffList(repository: Repository, volume: Volume, bands: readonly DamagedBand[]): Promise<void> {
  const names = new Set(bands.map(nameOf));
  await changeDamagedList(repository, volume, (listed) => listed.filter((one) => !names.has(nameOf(one))));
}

/** One name for a band and its sealing. */
export function nameOf({ bandIndex, salt }: DamagedBand): string {
  return `${bandIndex} ${saltName(salt)}`;
}
