import type { Padding } from '../../../bands/format/padding.ts';
import { parseSessionId } from '../../../bands/format/session-id.ts';
import { type SessionSummary, summarizeSessions } from '../../sessions.ts';
import type { Define } from '../define.ts';
import { formatBytes, formatTable, formatTime } from '../text.ts';

export function addVolumes(define: Define): void {
  define(
    'volumes',
    'list the volumes',
    (command) => command,
    async (context) => {
      await context.withRepository(async (repository, catalog) => {
        const { volumes, damaged } = await repository.listReadableVolumes();
        context.passOver(damaged);
        const rows: {
          name: string;
          id: string;
          sessions: number;
          newest: SessionSummary | undefined;
          bandBytes: number;
          pad: Padding | undefined;
        }[] = [];
        for (const volume of volumes) {
          const summaries = await summarizeSessions(volume, { catalog });
          context.tellProblems(summaries);
          const { bandBytes, padding: pad } = volume.record;
          rows.push({ name: volume.name, id: volume.id, sessions: summaries.length, newest: summaries.at(-1), bandBytes, pad });
        }
        const table = formatTable(
          ['VOLUME', '>SESSIONS', 'NEWEST', '>SIZE', '>STORED', 'SOURCE'],
          rows.map(({ name, sessions, newest }) => [
            name,
            String(sessions),
            newest === undefined ? '-' : formatTime(parseSessionId(newest.session) ?? 0),
            newest?.manifest === undefined ? '-' : formatBytes(newest.manifest.sizeBytes),
            newest?.manifest === undefined ? '-' : formatBytes(newest.manifest.totals.storedBytes),
            newest?.manifest?.source.location ?? newest?.problem ?? '-',
          ]),
        );
        context.print(rows.length === 0 ? 'No volumes yet. Make one with "timeband sync NAME=SOURCE".' : table, {
          volumes: rows.map(({ name, id, sessions, newest, bandBytes, pad }) => ({
            name,
            id,
            bandBytes,
            pad: pad ?? null,
            sessions,
            newest: newest?.session ?? null,
            sizeBytes: newest?.manifest?.sizeBytes ?? null,
            storedBytes: newest?.manifest?.totals.storedBytes ?? null,
            source: newest?.manifest?.source ?? null,
          })),
          damaged: damaged.map(({ id, error }) => ({ id, message: error.message })),
        });
      });
    },
  );
}
