import { TimebandError } from '../../../bands/errors.ts';
import { formatRanges } from '../../damage-log.ts';
import { knownDamage, listedBands } from '../../damaged-bands.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import type { Define } from '../define.ts';
import { parseCacheSize } from './mount.ts';

export function addOpen(define: Define): void {
  define(
    'open <session> <dir>',
    'mount the file system in NAME[@SESSION] read-only at DIR',
    (command) =>
      command
        .option('--partition <number>', 'the partition to mount, if the image has a partition table')
        .option('--cache-size <size>', 'memory for decoded data (64M)'),
    async (context, [text, dir], options) => {
      const { name, session } = splitVolumeAndSession(String(text));
      const partition = parsePartition(options['partition']);
      const cacheBytes = parseCacheSize(options['cacheSize']);
      const { openSession } = await import('../../mount/opened.ts');
      const opened = await context.withRepository(async (repository) => {
        const volume = await repository.volume(name);
        const id = await volume.resolve(session);
        const list = await knownDamage(volume, (message) => context.warn(message));
        const damaged = list.length === 0 ? [] : await listedBands(await volume.openSession(id), list);
        if (damaged.length > 0) context.warn(`known to be damaged: ${formatRanges(damaged.map(({ range }) => range))}; reading there fails (EIO).`);
        return await openSession(repository, {
          stateDirectory: context.stateDirectory,
          directory: String(dir),
          volume: name,
          session: id,
          partition,
          cacheBytes,
          signal: context.terminal.signal,
        });
      });
      context.print(
        `Opened ${name}@${opened.session} at ${opened.directory} (${opened.fileSystem}, read-only, through ${opened.loop}). Close it with: timeband close ${opened.directory}`,
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

function parsePartition(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  if (!/^[1-9]\d{0,3}$/.test(value)) throw new TimebandError(`"${value}" is not a partition number.`, { code: 'USAGE' });
  return Number(value);
}
