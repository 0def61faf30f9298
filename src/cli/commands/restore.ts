import { errnoOf, ioError, TimebandError } from '../../../bands/errors.ts';
import type { DamagedBand } from '../../../bands/format/damaged-list.ts';
import type { SessionDirectory } from '../../../bands/store/session-directory.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { type DamagedRange, formatRanges } from '../../damage-log.ts';
import { knownDamage } from '../../damaged-bands.ts';
import { Lease } from '../../leases.ts';
import { type RestoreResult, restoreSession, streamSession } from '../../restore.ts';
import { restoreInPlace } from '../../restore-in-place.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import { findRollback } from '../../sync/rollback.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { formatBytes, formatDuration } from '../text.ts';

export function addRestore(define: Define): void {
  define(
    'restore <session> <target>',
    'restore NAME[@SESSION] to a new file, to an existing file or device with --overwrite or --in-place, or to stdout (-)',
    (command) =>
      command
        .option('--overwrite', 'write over a file or device that exists')
        .option('--in-place', 'bring a file or device that exists to the session: compare it, write only what differs')
        .option('--at <session>', 'with --in-place: it is at this session, unchanged since; compare only what differs between the two')
        .option('--keep-going', 'restore what can be read; damaged ranges become zeros (in place they stay as they are) and are listed (status 3)'),
    async (context, [text, target], options) => {
      const { name, session } = splitVolumeAndSession(String(text));
      const how = { isOverwrite: options['overwrite'] === true, isInPlace: options['inPlace'] === true, isKeepGoing: options['keepGoing'] === true };
      const at = typeof options['at'] === 'string' ? options['at'] : undefined;
      checkUsage(context, String(target), { ...how, at });
      await using pool = new BandPool();
      await context.withRepository(async (repository, catalog) => {
        const volume = await repository.volume(name);
        const sessionId = await volume.resolve(session);
        const knownId = at === undefined ? undefined : await volume.resolve(at);
        const lease = { locks: repository.layout.locks, volume: name, volumeId: volume.id, command: 'restore' };
        await using _lease = await Lease.take({ ...lease, sessionId });
        await using _knownLease = knownId === undefined ? undefined : await Lease.take({ ...lease, sessionId: knownId });
        const opened = await volume.openSession(sessionId);
        const known = knownId === undefined ? undefined : await volume.openSession(knownId);
        const newest = (await volume.sessionIds()).at(-1);
        const rollback = newest === opened.sessionId ? await findRollback({ catalog, volume, newest: opened }) : undefined;
        if (rollback !== undefined) context.warn(`${rollback}. Sessions may have been removed, or the repository put back to an older state.`);
        const common = { pool, isKeepGoing: how.isKeepGoing, listed: await knownDamage(volume, (message) => context.warn(message)) };
        if (target === '-') await toStdout(context, opened, common);
        else if (how.isInPlace) await inPlace(context, opened, { ...common, target: String(target), knownAt: known });
        else await toTarget(context, opened, { ...common, ...how, target: String(target) });
      });
    },
  );
}

interface Common {
  readonly pool: BandPool;
  readonly isKeepGoing: boolean;
  readonly listed: readonly DamagedBand[];
}

interface How {
  readonly isOverwrite: boolean;
  readonly isInPlace: boolean;
  readonly at: string | undefined;
}

/** @throws TimebandError USAGE */
function checkUsage(context: CommandContext, target: string, { isOverwrite, isInPlace, at }: How): void {
  const problem =
    target === '-' && context.options.json === true
      ? '--json and restoring to stdout exclude each other.'
      : target === '-' && isInPlace
        ? '--in-place needs a file or device, not stdout.'
        : isInPlace && isOverwrite
          ? '--in-place and --overwrite exclude each other: the first writes what differs, the second everything.'
          : at !== undefined && !isInPlace
            ? '--at says where the target of --in-place is; give both.'
            : undefined;
  if (problem !== undefined) throw new TimebandError(problem, { code: 'USAGE' });
}

async function inPlace(
  context: CommandContext,
  session: SessionDirectory,
  options: Common & { readonly target: string; readonly knownAt: SessionDirectory | undefined },
): Promise<void> {
  const progress = context.progress('restore');
  try {
    const result = await restoreInPlace({ session, ...options, signal: context.terminal.signal, onProgress: progress?.update });
    progress?.end();
    reportDamage(context, result.damaged, 'damaged, and left as it was');
    const scope = options.knownAt === undefined ? '' : `, taken to be at ${options.knownAt.sessionId},`;
    context.print(
      `Brought ${result.target}${scope} to session ${result.session}: ${formatBytes(result.comparedBytes)} of ${formatBytes(result.sizeBytes)} compared, ` +
        `${formatBytes(result.writtenBytes)} written, in ${formatDuration(result.durationMs)}${describeBehind(result)}`,
      result,
    );
  } finally {
    progress?.end();
  }
}

function describeBehind({ behindBytes }: RestoreResult): string {
  return behindBytes === 0 ? '' : `; the ${formatBytes(behindBytes)} of the device behind the session's end were left alone`;
}

async function toTarget(
  context: CommandContext,
  session: SessionDirectory,
  options: Common & { readonly target: string; readonly isOverwrite: boolean },
): Promise<void> {
  const progress = context.progress('restore');
  try {
    const result = await restoreSession({ session, ...options, signal: context.terminal.signal, onProgress: progress?.update });
    progress?.end();
    reportDamage(context, result.damaged, 'damaged, and zeros in the output');
    const rate = formatBytes((result.sizeBytes / Math.max(1, result.durationMs)) * 1000);
    context.print(
      `Restored session ${result.session} to ${result.target}: ${formatBytes(result.sizeBytes)}, ${formatBytes(result.writtenBytes)} of it data, in ${formatDuration(result.durationMs)} (${rate}/s)${describeBehind(result)}`,
      { ...result, comparedBytes: null },
    );
  } finally {
    progress?.end();
  }
}

async function toStdout(context: CommandContext, session: SessionDirectory, options: Common): Promise<void> {
  const { stdout, signal } = context.terminal;
  const write = (bytes: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      stdout.write(bytes, (error) => (error === null || error === undefined ? resolve() : reject(writeError(error))));
    });
  const { damaged } = await streamSession({ session, ...options, signal, write });
  reportDamage(context, damaged, 'damaged, and zeros in the output');
}

function writeError(error: Error): TimebandError {
  if (errnoOf(error) === 'EPIPE')
    return new TimebandError('whoever read the output went away; it is incomplete.', { code: 'INTERRUPTED', cause: error });
  return ioError(error, 'write to', 'stdout');
}

function reportDamage(context: CommandContext, damaged: readonly DamagedRange[], what: string): void {
  if (damaged.length === 0) return;
  context.exitCode = EXIT.incomplete;
  context.warn(`${what}: ${formatRanges(damaged)}`);
  for (const { offset, length, reason } of damaged) context.warn(`bytes ${offset}-${offset + length - 1}: ${reason}`);
}
