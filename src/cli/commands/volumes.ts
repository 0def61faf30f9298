import { parseSessionId } from '../../../bands/format/session-id.ts';
import { type SessionSummary, summarizeSessions } from '../../sessions.ts';
import type { Volume } from '../../volume.ts';
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
        const rows: { volume: Volume; sessions: number; newest: SessionSummary | undefined }[] = [];
        for (const volume of volumes) {
          const summaries = await summarizeSessions(volume, { catalog });
          context.tellProblems(summaries);
          rows.push({ volume, sessions: summaries.length, newest: summaries.at(-1) });
        }
        const table = formatTable(
          ['VOLUME', '>SESSIONS', 'NEWEST', '>SIZE', '>STORED', 'SOURCE'],
          rows.map(({ volume, sessions, newest }) => [
            volume.name,
            String(sessions),
            newest === undefined ? '-' : formatTime(parseSessionId(newest.session) ?? 0),
            newest?.manifest === undefined ? '-' : formatBytes(newest.manifest.sizeBytes),
            newest?.manifest === undefined ? '-' : formatBytes(newest.manifest.totals.storedBytes),
            newest?.manifest?.source.location ?? newest?.problem ?? '-',
          ]),
        );
        context.print(rows.length === 0 ? 'No volumes yet. Make one with "timeband sync NAME=SOURCE".' : table, {
          volumes: rows.map(({ volume: { name, id, record }, sessions, newest }) => ({
            name,
            id,
            bandBytes: record.bandBytes,
            pad: record.padding ?? null,
            domain: record.domain?.name ?? null,
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
