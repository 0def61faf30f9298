import { TimebandError } from '../../../bands/errors.ts';
import type { OverlayChoice } from '../../overlay.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import type { Define } from '../define.ts';
import { warnOfKnownDamage } from '../known-damage.ts';
import { addOverlayOptions, overlayChoice } from '../overlay-options.ts';
import { parseCacheSize, startServerAhead } from './mount.ts';

export function addOpen(define: Define): void {
  define(
    'open <session> <dir>',
    'mount the file system in NAME[@SESSION] at DIR, read-only unless told otherwise',
    (command) =>
      addOverlayOptions(command)
        .option('--partition <number>', 'the partition to mount, if the image has a partition table')
        .option('--cache-size <size>', 'memory for decoded data (256M)'),
    async (context, [text, dir], options) => {
      const { name, session } = splitVolumeAndSession(String(text));
      const partition = parsePartition(options['partition']);
      const cacheBytes = parseCacheSize(options['cacheSize']);
      const overlay = overlayChoice(context, options);
      await using server = await startServerAhead(context);
      const opened = await context.withRepository(async (repository) => {
        const { openSession } = await import('../../mount/opened.ts');
        const volume = await repository.volume(name);
        const id = await volume.resolve(session);
        await warnOfKnownDamage(context, volume, id);
        return await openSession(repository, {
          stateDirectory: context.stateDirectory,
          directory: String(dir),
          volume: name,
          session: id,
          partition,
          cacheBytes,
          overlay,
          signal: context.terminal.signal,
          server,
        });
      });
      context.print(
        `Opened ${name}@${opened.session} at ${opened.directory} (${opened.fileSystem}, ${describe(overlay)}, through ${opened.loop}). Close it with: timeband close ${opened.directory}`,
        {
          volume: name,
          ...opened,
        },
      );
    },
  );

  define(
    'close <dir>',
    'take an opened session down',
    (command) => command,
    async (context, [dir]) => {
      const { closeSession } = await import('../../mount/opened.ts');
      const directory = await closeSession(context.stateDirectory, String(dir));
      context.print(`Closed ${directory}.`, { directory });
    },
  );
}

function describe(overlay: OverlayChoice | undefined): string {
  if (overlay === undefined) return 'read-only';
  return 'file' in overlay ? `what is written goes to ${overlay.file}` : 'what is written is thrown away when it is closed';
}

function parsePartition(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  if (!/^[1-9]\d{0,3}$/.test(value)) throw new TimebandError(`"${value}" is not a partition number.`, { code: 'USAGE' });
  return Number(value);
}
