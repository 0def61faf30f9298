import { errnoOf, ioError, TimebandError } from '../../../bands/errors.ts';
import type { SessionDirectory } from '../../../bands/store/session-directory.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { Lease } from '../../leases.ts';
import { type DamagedRange, formatRanges, restoreSession, streamSession } from '../../restore.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import { findRollback } from '../../sync/rollback.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { formatBytes, formatDuration } from '../text.ts';

export function addRestore(define: Define): void {
  define(
    'restore <session> <target>',
    'restore NAME[@SESSION] to a new file, to an existing file or device with --overwrite, or to stdout (-)',
    (command) =>
      command
        .option('--overwrite', 'write over a file or device that exists')
        .option('--keep-going', 'restore what can be read; damaged ranges become zeros and are listed (status 3)'),
    async (context, [text, target], options) => {
      const { name, session } = splitVolumeAndSession(String(text));
      const isKeepGoing = options['keepGoing'] === true;
      if (target === '-' && context.options.json === true)
        throw new TimebandError('--json and restoring to stdout exclude each other.', { code: 'USAGE' });
      await using pool = new BandPool();
      await context.withRepository(async (repository, catalog) => {
        const volume = await repository.volume(name);
        const opened = await volume.openSession(await volume.resolve(session));
        await using _lease = await Lease.take({
          locks: repository.layout.locks,
          volume: name,
          volumeId: volume.id,
          sessionId: opened.sessionId,
          command: `restore ${name}@${opened.sessionId}`,
        });
        const newest = (await volume.sessionIds()).at(-1);
        const rollback = newest === opened.sessionId ? await findRollback({ catalog, volume, newest: opened }) : undefined;
        if (rollback !== undefined) context.warn(`${rollback}. Sessions may have been removed, or the repository put back to an older state.`);
        if (target === '-') await toStdout(context, opened, { pool, isKeepGoing });
        else await toTarget(context, opened, { pool, isKeepGoing, target: String(target), isOverwrite: options['overwrite'] === true });
      });
    },
  );
}

async function toTarget(
  context: CommandContext,
  session: SessionDirectory,
  options: { readonly pool: BandPool; readonly target: string; readonly isOverwrite: boolean; readonly isKeepGoing: boolean },
): Promise<void> {
  const progress = context.progress('restore');
  try {
    const result = await restoreSession({ session, ...options, signal: context.terminal.signal, onProgress: progress?.update });
    progress?.end();
    reportDamage(context, result.damaged);
    const rate = formatBytes((result.sizeBytes / Math.max(1, result.durationMs)) * 1000);
    context.print(
      `Restored session ${result.session} to ${result.target}: ${formatBytes(result.sizeBytes)}, ${formatBytes(result.writtenBytes)} of it data, in ${formatDuration(result.durationMs)} (${rate}/s)`,
      result,
    );
  } finally {
    progress?.end();
  }
}

async function toStdout(
  context: CommandContext,
  session: SessionDirectory,
  options: { readonly pool: BandPool; readonly isKeepGoing: boolean },
): Promise<void> {
  const { stdout, signal } = context.terminal;
  const write = (bytes: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      stdout.write(bytes, (error) => (error === null || error === undefined ? resolve() : reject(writeError(error))));
    });
  const { damaged } = await streamSession({ session, ...options, signal, write });
  reportDamage(context, damaged);
}

function writeError(error: Error): TimebandError {
  if (errnoOf(error) === 'EPIPE')
    return new TimebandError('whoever read the output went away; it is incomplete.', { code: 'INTERRUPTED', cause: error });
  return ioError(error, 'write to', 'stdout');
}

function reportDamage(context: CommandContext, damaged: readonly DamagedRange[]): void {
  if (damaged.length === 0) return;
  context.exitCode = EXIT.incomplete;
  context.warn(`damaged, and zeros in the output: ${formatRanges(damaged)}`);
  for (const { offset, length, reason } of damaged) context.warn(`bytes ${offset}-${offset + length - 1}: ${reason}`);
}
