import { checkSourceKind } from '../../sources/open-source.ts';
import type { SourceKind } from '../../sources/source.ts';
import { forgetSource, previewSource, type SourcePreview } from '../../sync/preview.ts';
import type { Define } from '../define.ts';
import { formatBytes } from '../text.ts';
import { parseRequest } from './sync.ts';

export function addSources(define: Define): void {
  define(
    'sources <volume>',
    'how NAME or NAME=SOURCE is read, why, and what the next sync would read',
    (command) => command.option('--source <kind>', 'look at this kind instead of the best one that applies'),
    async (context, [volume], options) => {
      const request = parseRequest(String(volume));
      await context.withRepository(async (repository, catalog) => {
        const environment = { catalog, stateDirectory: context.stateDirectory };
        const preview = await previewSource(repository, { ...request, sourceKind: kindOf(options['source']) }, environment);
        for (const warning of preview.warnings) context.warn(warning);
        context.print(describePreview(preview), { ...preview, base: preview.base ?? null, changed: preview.changed ?? null });
      });
    },
  );
}

export function addForgetSource(define: Define): void {
  define(
    'forget-source <volume>',
    'remove what syncs of NAME keep beside its source (clones, snapshots, bitmaps); the next sync reads everything',
    (command) => command.option('--source <kind>', 'the kind that kept it, where another applies now'),
    async (context, [volume], options) => {
      const request = parseRequest(String(volume));
      await context.withRepository(async (repository, catalog) => {
        const environment = { catalog, stateDirectory: context.stateDirectory };
        const removed = await forgetSource(repository, { ...request, sourceKind: kindOf(options['source']) }, environment);
        const text = removed.length === 0 ? `Nothing was kept for ${request.name}.` : ['Removed:', ...removed.map((one) => `  ${one}`)].join('\n');
        context.print(text, { volume: request.name, removed });
      });
    },
  );
}

function kindOf(option: unknown): SourceKind | undefined {
  return typeof option === 'string' ? checkSourceKind(option) : undefined;
}

function describePreview(preview: SourcePreview): string {
  const { changed, base, bands, sizeBytes } = preview;
  const next =
    changed === undefined
      ? `reads all data: up to ${formatBytes(preview.toReadBytes)} of ${formatBytes(sizeBytes)}`
      : `reads ${changed.bands} of ${bands} bands (${formatBytes(preview.toReadBytes)}): ${changed.ranges} range(s), ${formatBytes(changed.bytes)}, changed since session ${base}`;
  return [
    `${preview.volume}: ${preview.location}`,
    `  ${preview.kind}: ${preview.reason}`,
    ...preview.others.map(({ kind, reason }) => `  not ${kind}: ${reason}`),
    `  the next sync ${next}`,
  ].join('\n');
}
