import { TimebandError } from '../../../bands/errors.ts';
import { createBundle, DEFAULT_BUNDLE_BAND_BYTES } from '../../bundle/create-bundle.ts';
import type { Define } from '../define.ts';
import { formatBytes, parseSize } from '../text.ts';

/** Loaded when it is used, as all that mounts. */
async function loadAttached(): Promise<typeof import('../../mount/attached.ts')> {
  return await import('../../mount/attached.ts');
}

export function addBundle(define: Define): void {
  define(
    'create <bundle>',
    'make an empty sparse bundle (NAME.sparsebundle)',
    (command) => command.requiredOption('--size <size>', 'of the disk: 40G').option('--band-size <size>', 'of its files: 1M to 8G (8M)'),
    async (context, [bundle], options) => {
      const shape = {
        sizeBytes: sizeOption(options['size'], '40G') ?? 0,
        bandBytes: sizeOption(options['bandSize'], '8M') ?? DEFAULT_BUNDLE_BAND_BYTES,
      };
      const made = await createBundle(String(bundle), shape);
      context.print(`Made ${made}: ${formatBytes(shape.sizeBytes)} in bands of ${formatBytes(shape.bandBytes)}.`, { bundle: made, ...shape });
    },
  );

  define(
    'attach <bundle> <dir>',
    'serve a plain sparse bundle, writable, as DIR/image',
    (command) => command.option('--allow-other', 'let other users read it, too'),
    async (context, [bundle, dir], options) => {
      const { attachBundle } = await loadAttached();
      const { image, directory } = await attachBundle({
        stateDirectory: context.stateDirectory,
        image: String(bundle),
        directory: String(dir),
        allowOther: options['allowOther'] === true,
        signal: context.terminal.signal,
      });
      context.print(`Attached ${image} as ${directory}/image. Take it down with: timeband bundle detach ${directory}`, { bundle: image, directory });
    },
  );

  define(
    'detach <dir>',
    'take a sparse bundle down, when nothing uses it any more',
    (command) => command,
    async (context, [dir]) => {
      const { detachBundle } = await loadAttached();
      const { image, directory } = await detachBundle(context.stateDirectory, String(dir));
      context.print(`Detached ${image} from ${directory}.`, { bundle: image, directory });
    },
  );
}

function sizeOption(value: unknown, example: string): number | undefined {
  if (typeof value !== 'string') return undefined;
  const bytes = parseSize(value);
  if (bytes === undefined || bytes === 0) throw new TimebandError(`"${value}" is not a size; write ${example}.`, { code: 'USAGE' });
  return bytes;
}
