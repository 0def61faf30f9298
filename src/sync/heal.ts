/**
 * Healing from the source: bands on the damaged list are read from the source again, and where it still holds what a session
 * held, all sessions that share the damaged file get a new one. What stays damaged is not built on.
 */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { Bitmap } from '../../bands/format/bitmap.ts';
import type { DamagedBand } from '../../bands/format/damaged-list.ts';
import { bandCountOf } from '../../bands/format/geometry.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { knownDamage, listedBands } from '../damaged-bands.ts';
import { contentDonor, sourceDonor } from '../repair/band-donors.ts';
import { BandRepair } from '../repair/band-repair.ts';
import { takeOffList } from '../repair/review-list.ts';
import { Workshop } from '../repair/workshop.ts';
import type { Repository } from '../repository.ts';
import type { SourceView } from '../sources/source.ts';
import type { Volume } from '../volume.ts';
import { interrupted } from './page-sync.ts';

export interface HealInput {
  readonly repository: Repository;
  /** Its lock is held, except in a dry run. Undefined: a dry run of a volume that does not exist yet. */
  readonly volume: Volume | undefined;
  readonly view: SourceView;
  readonly base: SessionDirectory | undefined;
  readonly pool: BandPool;
  readonly isDryRun: boolean;
  readonly signal: AbortSignal | undefined;
}

export interface Healing {
  readonly healedBands: number;
  /** Bands whose file in the base is damaged still: to be read, and never to be linked. */
  readonly damagedInBase: Bitmap | undefined;
  readonly warnings: readonly string[];
}

/** Heals what is on the list of a volume. What cannot be healed is a warning. @throws TimebandError INTERRUPTED, NO_SPACE */
export async function healFromSource(input: HealInput): Promise<Healing> {
  const { repository, volume, view, base } = input;
  const warnings: string[] = [];
  if (volume === undefined) return { healedBands: 0, damagedInBase: undefined, warnings };
  const list = await knownDamage(volume, (message) => warnings.push(message));
  if (list.length === 0) return { healedBands: 0, damagedInBase: undefined, warnings };
  const { remaining, healedBands } = input.isDryRun ? { remaining: list, healedBands: 0 } : await healAll({ ...input, volume }, list, warnings);
  const settled = list.filter((band) => !remaining.includes(band));
  if (settled.length > 0) await tellQuietly(() => takeOffList(repository, volume, settled), warnings);
  if (remaining.length > 0)
    warnings.push(
      `${remaining.length} band(s) of earlier sessions of "${volume.name}" are damaged, and could not be healed from the source: ` +
        `"timeband check ${volume.name}" lists them, "timeband check --repair --from" takes them from a second copy.`,
    );
  const damagedInBase = new Bitmap(bandCountOf(view.sizeBytes, volume.context.bandBytes));
  const inBase = base === undefined ? [] : await listedBands(base, remaining);
  for (const { bandIndex } of inBase) if (bandIndex < damagedInBase.size) damagedInBase.set(bandIndex);
  return { healedBands, damagedInBase, warnings };
}

/** A list that names too much costs reading, no more. */
async function tellQuietly(work: () => Promise<void>, warnings: string[]): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof TimebandError)) throw error;
    warnings.push(`bands that are whole again could not be taken off the damaged list: ${error.message}`);
  }
}

interface Healed {
  readonly healedBands: number;
  /** What is damaged still. */
  readonly remaining: readonly DamagedBand[];
}

async function healAll(
  { volume, view, pool, signal }: HealInput & { readonly volume: Volume },
  list: readonly DamagedBand[],
  warnings: string[],
): Promise<Healed> {
  const keys = shareBandKeys(volume.context);
  await using workshop = await Workshop.open(volume, false);
  const repair = new BandRepair({ volume, pool, keys, workshop, donors: [sourceDonor(pool, keys, view), contentDonor(pool, keys)] });
  const remaining: DamagedBand[] = [];
  let healedBands = 0;
  for (const band of list) {
    if (signal?.aborted === true) throw interrupted();
    try {
      const { status } = await repair.repair(band);
      if (status === 'mended') healedBands++;
      if (status === 'damaged') remaining.push(band);
    } catch (error) {
      if (error instanceof TimebandError && (error.code === 'INTERRUPTED' || error.code === 'NO_SPACE')) throw error;
      remaining.push(band); // damage of the past must not keep the present from being backed up
      warnings.push(`a damaged band could not be healed: ${messageOf(error)}`);
    }
  }
  return { healedBands, remaining };
}
