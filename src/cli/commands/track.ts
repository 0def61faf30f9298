import { TimebandError } from '../../../bands/errors.ts';
import type { TrackedStatus } from '../../mount/attached.ts';
import type { Define } from '../define.ts';
import { formatBytes, parseSize } from '../text.ts';

const SHOWN_ID_DIGITS = 8;

/** Loaded when it is used, as all that mounts. */
async function loadAttached(): Promise<typeof import('../../mount/attached.ts')> {
  return await import('../../mount/attached.ts');
}

export function addTrack(define: Define): void {
  define(
    'attach <image> <dir>',
    'serve a raw disk image (or device), writable, as DIR/image, and keep track of what is written to it',
    (command) =>
      command
        .option('--allow-other', 'let other users read it, too')
        .option('--aside-size <size>', 'how much of old contents a sync may keep aside while it reads (2G)'),
    async (context, [image, dir], options) => {
      const { attachTracked } = await loadAttached();
      const attached = await attachTracked({
        stateDirectory: context.stateDirectory,
        image: String(image),
        directory: String(dir),
        allowOther: options['allowOther'] === true,
        asideBytes: parseAsideSize(options['asideSize']),
        signal: context.terminal.signal,
      });
      if (attached.doubt !== undefined) context.warn(`the next sync reads everything: ${attached.doubt}.`);
      context.print(
        `Attached ${attached.image} as ${attached.directory}/image. Write to it only there; take it down with: timeband track detach ${attached.directory}`,
        { ...attached, doubt: attached.doubt ?? null },
      );
    },
  );

  define(
    'detach <dir>',
    'take a tracked image down, when nothing uses it any more',
    (command) => command,
    async (context, [dir]) => {
      const { detachTracked } = await loadAttached();
      const { image, directory, isInOrder } = await detachTracked(context.stateDirectory, String(dir));
      if (!isInOrder)
        context.warn(
          `${image} was not detached in order: the process that served it had been killed, or could not make it durable. Attach it again before anything else writes to it, or the next sync reads everything.`,
        );
      context.print(`Detached ${image} from ${directory}.`, { image, directory, inOrder: isInOrder });
    },
  );

  define(
    'status [dir]',
    'which tracked images are attached, and how much was written to them since their last sessions',
    (command) => command,
    async (context, [dir]) => {
      const { trackedStatus } = await loadAttached();
      const found = await trackedStatus(context.stateDirectory, typeof dir === 'string' ? dir : undefined);
      const text = found.length === 0 ? 'No tracked image is attached.' : found.map(describeStatus).join('\n');
      context.print(text, { images: found.map(toDocument) });
    },
  );
}

function parseAsideSize(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  const bytes = parseSize(value);
  if (bytes === undefined) throw new TimebandError(`"${value}" is not a size; write 512M, 4G …`, { code: 'USAGE' });
  return bytes;
}

function describeStatus({ image, directory, state, details }: TrackedStatus): string {
  if (details === undefined)
    return `${directory}: ${image}, ${state}: the process that served it has ended. Attach it again: timeband track attach ${image} ${directory}`;
  const lines = details.sessions.map(({ repositoryId, volumeId, changedBytes }) => {
    const [repository, volume] = [repositoryId, volumeId].map((id) => id.slice(0, SHOWN_ID_DIGITS));
    return `  ${formatBytes(changedBytes)} changed since the last session of volume ${volume}… in repository ${repository}…`;
  });
  const doubt = details.doubt === null ? [] : [`  the next sync reads everything: ${details.doubt}`];
  const aside = details.asideBytes === null ? [] : [`  a sync is reading it; ${formatBytes(details.asideBytes)} of old contents are kept aside`];
  return [`${directory}: ${image}, ${state}, ${formatBytes(details.sizeBytes)}`, ...lines, ...doubt, ...aside].join('\n');
}

function toDocument({ image, directory, state, details }: TrackedStatus): unknown {
  return {
    image,
    directory,
    state,
    sizeBytes: details?.sizeBytes ?? null,
    sessions: details?.sessions ?? [],
    asideBytes: details?.asideBytes ?? null,
    doubt: details?.doubt ?? null,
  };
}
