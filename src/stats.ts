/** What a repository holds and takes, and what sharing and compression save. From manifests and indexes alone. */
import type { Catalog } from './catalog.ts';
import type { Repository } from './repository.ts';
import { summarizeSessions } from './sessions.ts';
import type { Volume } from './volume.ts';

/** Bytes; sessions that cannot be read are in none of the sums. */
export interface VolumeStats {
  readonly volume: string;
  readonly sessions: number;
  readonly damagedSessions: number;
  /** Sizes of all sessions' images: what they would take as raw copies. */
  readonly logicalBytes: number;
  /** The same without bands of zeros. */
  readonly dataBytes: number;
  /** Band files, counted for every session that has them: what they would take without hardlinks. */
  readonly linkedBytes: number;
  /** Band files, each counted once: what they take. */
  readonly storedBytes: number;
}

export interface RepositoryStats {
  readonly volumes: readonly VolumeStats[];
  /** Volumes whose record or list of sessions cannot be read. */
  readonly damagedVolumes: number;
}

export async function repositoryStats(repository: Repository, catalog?: Catalog): Promise<RepositoryStats> {
  const { volumes, damaged } = await repository.listReadableVolumes();
  const stats: VolumeStats[] = [];
  for (const volume of volumes) stats.push(await volumeStats(volume, catalog));
  return { volumes: stats, damagedVolumes: damaged.length };
}

async function volumeStats(volume: Volume, catalog: Catalog | undefined): Promise<VolumeStats> {
  const summaries = await summarizeSessions(volume, { catalog, withSizes: true });
  const readable = summaries.flatMap(({ manifest, sizes }) => (manifest === undefined || sizes === undefined ? [] : { ...manifest, ...sizes }));
  const sum = (of: (manifest: (typeof readable)[number]) => number): number => readable.reduce((total, manifest) => total + of(manifest), 0);
  return {
    volume: volume.name,
    sessions: summaries.length,
    damagedSessions: summaries.length - readable.length,
    logicalBytes: sum(({ sizeBytes }) => sizeBytes),
    dataBytes: sum(({ totals, bandBytes }) => (totals.bands - totals.zeroBands) * bandBytes),
    linkedBytes: sum(({ totals }) => totals.storedBytes),
    storedBytes: sum(({ addedBytes }) => addedBytes),
  };
}
