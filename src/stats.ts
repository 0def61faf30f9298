/** What a repository holds and takes, and what sharing and compression save. From manifests and indexes; of key domains, from links, too. */
import type { Catalog } from './catalog.ts';
import { CountedFiles } from './deletion/shared-files.ts';
import { countFiles } from './deletion/sizes.ts';
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
  /** Band files, each counted once: what they take. One that volumes of a key domain share is counted at the first of them, by name. */
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
  const counted = new CountedFiles();
  for (const volume of volumes) stats.push(await volumeStats(volume, catalog, counted));
  return { volumes: stats, damagedVolumes: damaged.length };
}

async function volumeStats(volume: Volume, catalog: Catalog | undefined, counted: CountedFiles): Promise<VolumeStats> {
  const summaries = await summarizeSessions(volume, { catalog, withSizes: true });
  const readable = summaries.flatMap(({ session, manifest, sizes }) =>
    manifest === undefined || sizes === undefined ? [] : { session, ...manifest, ...sizes },
  );
  const sum = (of: (manifest: (typeof readable)[number]) => number): number => readable.reduce((total, manifest) => total + of(manifest), 0);
  return {
    volume: volume.name,
    sessions: summaries.length,
    damagedSessions: summaries.length - readable.length,
    logicalBytes: sum(({ sizeBytes }) => sizeBytes),
    dataBytes: sum(({ totals, bandBytes }) => (totals.bands - totals.zeroBands) * bandBytes),
    linkedBytes: sum(({ totals }) => totals.storedBytes),
    storedBytes:
      volume.record.domain === undefined
        ? sum(({ addedBytes }) => addedBytes)
        : await countFiles(
            volume,
            readable.map(({ session }) => session),
            counted,
          ),
  };
}
