import { TimebandError } from '../../../bands/errors.ts';
import { toHex } from '../../../bands/format/bytes.ts';
import type { Labels } from '../../../bands/format/labels.ts';
import type { Manifest } from '../../../bands/format/manifest.ts';
import { parseSessionId } from '../../../bands/format/session-id.ts';
import { sizesOfSession } from '../../deletion/sizes.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import { type SessionSummary, summarizeSessions } from '../../sessions.ts';
import type { Define } from '../define.ts';
import { formatBytes, formatTable, formatTime } from '../text.ts';

/** A session as --json shows it; the fields stay. */
function toJson({ volume, session, manifest, labels, sizes, problem }: SessionSummary): Record<string, unknown> {
  return {
    volume,
    session,
    time: new Date(parseSessionId(session) ?? 0).toISOString(),
    sizeBytes: manifest?.sizeBytes ?? null,
    bandBytes: manifest?.bandBytes ?? null,
    bands: manifest?.totals.bands ?? null,
    zeroBands: manifest?.totals.zeroBands ?? null,
    changedBands: manifest?.totals.changedBands ?? null,
    storedBytes: manifest?.totals.storedBytes ?? null,
    writtenBytes: manifest?.totals.writtenBytes ?? null,
    addedBytes: sizes?.addedBytes ?? null,
    freedBytes: sizes?.freedBytes ?? null,
    base: manifest?.base?.sessionId ?? null,
    source: manifest?.source ?? null,
    tags: labels?.tags ?? [],
    note: labels?.note ?? '',
    protected: labels?.isProtected ?? false,
    verified: labels?.verified === undefined ? null : { at: new Date(labels.verified.atMs).toISOString(), data: labels.verified.withData },
    problem: problem ?? null,
  };
}

export function addSessions(define: Define): void {
  define(
    'sessions [name]',
    'list the sessions of one volume, or of all',
    (command) => command,
    async (context, [name]) => {
      await context.withRepository(async (repository, catalog) => {
        const named = typeof name === 'string' ? [await repository.volume(name)] : undefined;
        const { volumes, damaged } = named === undefined ? await repository.listReadableVolumes() : { volumes: named, damaged: [] };
        context.passOver(damaged);
        const summaries = (await Promise.all(volumes.map((volume) => summarizeSessions(volume, { catalog, withSizes: true })))).flat();
        context.tellProblems(summaries);
        const table = formatTable(
          ['VOLUME', 'SESSION', 'TIME', '>SIZE', '>CHANGED', '>ADDED', '>FREES', '>STORED', 'VERIFIED', 'TAGS', 'NOTE'],
          summaries.map(({ volume, session, manifest, labels, sizes }) => [
            volume,
            session,
            formatTime(parseSessionId(session) ?? 0),
            ...(manifest === undefined
              ? ['?', '?', '?', '?', '?']
              : [
                  formatBytes(manifest.sizeBytes),
                  `${manifest.totals.changedBands} bands`,
                  sizes === undefined ? '?' : formatBytes(sizes.addedBytes),
                  sizes === undefined ? '?' : formatBytes(sizes.freedBytes),
                  formatBytes(manifest.totals.storedBytes),
                ]),
            describeVerified(labels, 'day'),
            [...(labels?.isProtected === true ? ['(protected)'] : []), ...(labels?.tags ?? [])].join(','),
            labels?.note ?? '',
          ]),
        );
        context.print(summaries.length === 0 ? 'No sessions yet.' : table, {
          sessions: summaries.map(toJson),
          damagedVolumes: damaged.map(({ id, error }) => ({ id, message: error.message })),
        });
      });
    },
  );

  define(
    'show <session>',
    'show one session: NAME@SESSION',
    (command) => command,
    async (context, [text]) => {
      const { name, session } = splitVolumeAndSession(String(text));
      await context.withRepository(async (repository) => {
        const volume = await repository.volume(name);
        const id = await volume.resolve(session);
        const opened = await volume.openSession(id);
        const labels = await volume.readLabels(id);
        const { manifest } = opened;
        const { totals } = manifest;
        const rows = [
          ['session', `${name}@${id}`],
          ['time', formatTime(parseSessionId(id) ?? 0)],
          ['size', `${formatBytes(manifest.sizeBytes)} (${manifest.sizeBytes} bytes)`],
          [
            'bands',
            `${totals.bands} of ${formatBytes(manifest.bandBytes)}; ${totals.zeroBands} zero, ${totals.changedBands} changed since its base${describePadding(manifest)}`,
          ],
          ['stored', `${formatBytes(totals.storedBytes)}, of which ${formatBytes(totals.writtenBytes)} written by this session`],
          ['base', manifest.base?.sessionId ?? '-'],
          ['domain', volume.record.domain?.name ?? '-'],
          ['source', `${manifest.source.location} (${manifest.source.kind}) on ${manifest.source.host}`],
          ['taken', `${formatTime(manifest.startedMs)} to ${formatTime(manifest.finishedMs)} by ${manifest.program}`],
          ['verified', describeVerified(labels, 'time') || '-'],
          ['tags', labels.tags.join(', ') || '-'],
          ['note', labels.note || '-'],
          ['folder', opened.directory],
        ];
        context.print(rows.map(([key = '', value = '']) => `${key.padEnd(8)} ${value}`).join('\n'), {
          ...toJson({ volume: name, session: id, manifest, labels, sizes: await sizesOfSession(volume, id), problem: undefined }),
          started: new Date(manifest.startedMs).toISOString(),
          finished: new Date(manifest.finishedMs).toISOString(),
          domain: volume.record.domain?.name ?? null,
          manifestSha256: toHex(opened.manifestDigest),
          program: manifest.program,
          pad: manifest.padding ?? null,
          directory: opened.directory,
        });
      });
    },
  );
}

/** `2026-11-21 data`: when the session was last found whole, and whether its data was read; empty if never. */
function describeVerified(labels: Labels | undefined, precision: 'day' | 'time'): string {
  if (labels?.verified === undefined) return '';
  const { atMs, withData } = labels.verified;
  return `${formatTime(atMs).slice(0, precision === 'day' ? 10 : undefined)} ${withData ? 'data' : 'structure'}`;
}

function describePadding({ padding }: Manifest): string {
  if (padding === undefined) return '';
  return `; files padded ${padding === 'padme' ? 'by Padmé' : `to multiples of ${formatBytes(padding)}`}`;
}

/** `NAME@SESSION` where a session must be named. */
export function requireSession(text: string): { readonly name: string; readonly session: string } {
  const { name, session } = splitVolumeAndSession(text);
  if (session === undefined) throw new TimebandError(`"${text}": name a session, as in ${name}@latest~1.`, { code: 'USAGE' });
  return { name, session };
}
