import { ioError, TimebandError } from '../../../bands/errors.ts';
import { wipeKeys } from '../../../bands/format/keys.ts';
import { volumeKeyCodec } from '../../../bands/format/volume-key.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { writeOutput } from '../write-output.ts';

export function addKeyExport(define: Define): void {
  define(
    'export <name> [file]',
    'write the key that opens one volume and nothing else to FILE, or into a pipe',
    (command) => command,
    async (context, [name, file]) => {
      const target = typeof file === 'string' ? file : undefined;
      requireTarget(context, target);
      await context.withRepository(async (repository) => {
        const volume = await repository.volume(String(name));
        const volumeKey = repository.exportVolumeKey(volume);
        const bytes = volumeKeyCodec.encode(volumeKey);
        try {
          await writeSecret(context, target, bytes);
        } finally {
          wipeKeys(volumeKey.key, bytes);
        }
        if (target === undefined) return;
        context.print(
          `Wrote the key of volume ${volume.name} to ${target}. It is not sealed: whoever has the file can read and write that volume, for ever.`,
          { volume: volume.name, id: volume.id, file: target },
        );
      });
    },
  );
}

/** @throws TimebandError USAGE if there is no file and stdout is a terminal, or has a document on it */
export function requireTarget({ options, terminal }: CommandContext, file: string | undefined): void {
  if (file !== undefined) return;
  if (options.json === true) throw new TimebandError('--json and writing to stdout exclude each other: name a file.', { code: 'USAGE' });
  if (terminal.stdoutColumns !== undefined)
    throw new TimebandError('this would be shown on the terminal: name a file, or send it into a pipe.', { code: 'USAGE' });
}

/** To a new private file, or to stdout. @throws TimebandError TARGET_EXISTS, IO_ERROR */
export async function writeSecret({ terminal }: CommandContext, file: string | undefined, bytes: Uint8Array): Promise<void> {
  if (file !== undefined) return await writeOutput(file, bytes, 'Name another file.');
  await new Promise<void>((resolve, reject) => {
    terminal.stdout.write(bytes, (error) => (error === null || error === undefined ? resolve() : reject(ioError(error, 'write to', 'stdout'))));
  });
}
