import { repositoryStats, type VolumeStats } from '../../stats.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { formatBytes, formatTable } from '../text.ts';

export function addStats(define: Define): void {
  define(
    'stats',
    'what the repository holds and takes; what compression and sharing save',
    (command) => command,
    async (context) => {
      await context.withRepository(async (repository, catalog) => {
        const { volumes, damagedVolumes } = await repositoryStats(repository, catalog);
        const total = addUp(volumes);
        const damaged = damagedVolumes + total.damagedSessions;
        if (damaged > 0) {
          context.exitCode = EXIT.incomplete;
          context.warn(
            `${damagedVolumes} volume(s) and ${total.damagedSessions} session(s) cannot be read and are not counted. Run "timeband check".`,
          );
        }
        const rows = [...volumes, ...(volumes.length === 1 ? [] : [total])].map((one) => [
          one.volume,
          String(one.sessions),
          formatBytes(one.logicalBytes),
          formatBytes(one.dataBytes),
          formatBytes(one.linkedBytes),
          formatBytes(one.storedBytes),
          ratio(one.dataBytes, one.linkedBytes),
          ratio(one.linkedBytes, one.storedBytes),
        ]);
        const heads = ['VOLUME', '>SESSIONS', '>IMAGES', '>DATA', '>UNSHARED', '>STORED', '>COMPRESSION', '>SHARING'];
        context.print(volumes.length === 0 ? 'No volumes yet.' : formatTable(heads, rows), {
          volumes: volumes.map(withRatios),
          total: withRatios(total),
          damagedVolumes,
        });
      });
    },
  );
}

function addUp(volumes: readonly VolumeStats[]): VolumeStats {
  const sum = (of: (one: VolumeStats) => number): number => volumes.reduce((total, one) => total + of(one), 0);
  return {
    volume: 'all',
    sessions: sum(({ sessions }) => sessions),
    damagedSessions: sum(({ damagedSessions }) => damagedSessions),
    logicalBytes: sum(({ logicalBytes }) => logicalBytes),
    dataBytes: sum(({ dataBytes }) => dataBytes),
    linkedBytes: sum(({ linkedBytes }) => linkedBytes),
    storedBytes: sum(({ storedBytes }) => storedBytes),
  };
}

function withRatios(one: VolumeStats): VolumeStats & { readonly compression: number | null; readonly sharing: number | null } {
  const rounded = (value: number, by: number): number | null => (by === 0 ? null : Math.round((value / by) * 1000) / 1000);
  return { ...one, compression: rounded(one.dataBytes, one.linkedBytes), sharing: rounded(one.linkedBytes, one.storedBytes) };
}

function ratio(value: number, by: number): string {
  return by === 0 ? '-' : `${(value / by).toFixed(2)} x`;
}
