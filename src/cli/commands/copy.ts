import { TimebandError } from '../../../bands/errors.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { type CopyResult, copySessions, type SessionOutcome } from '../../copy/copy.ts';
import type { CopyRequest } from '../../copy/plan.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { withTwoRepositories } from '../second-repository.ts';
import { formatBytes, formatDuration, formatTable } from '../text.ts';

export function addCopy(define: Define): void {
  define(
    'copy [sessions...]',
    'copy volumes (NAME) or single sessions (NAME@SESSION) into another repository, with their sharing',
    (command) =>
      command
        .requiredOption('--to <path>', 'the other repository')
        .option('--all', 'copy all volumes')
        .option('--keep-going', 'leave damaged sessions out and copy the others (status 3)')
        .option('--dry-run', 'only show what would be copied')
        .option('--accept-rollback', "go on although the other repository's newest session is older or another than this machine has seen")
        .option('--to-passphrase-file <file>', 'read the passphrase of the other repository from a file')
        .option('--to-passphrase-command <command>', 'run a command that prints it'),
    async (context, [sessions], options) => {
      const requests = parseRequests(sessions as string[], options['all'] === true);
      const text = (name: string): string | undefined => (typeof options[name] === 'string' ? options[name] : undefined);
      const second = { path: String(options['to']), passphraseFile: text('toPassphraseFile'), passphraseCommand: text('toPassphraseCommand') };
      await using pool = new BandPool(); // threads start while the keys are derived
      const progress = context.progress('copy');
      try {
        const result = await withTwoRepositories(context, second, (from, to) => {
          const how = {
            requests,
            isKeepGoing: options['keepGoing'] === true,
            isDryRun: options['dryRun'] === true,
            acceptsRollback: options['acceptRollback'] === true,
            signal: context.terminal.signal,
            onProgress: progress?.update,
          };
          return copySessions(from.repository, to.repository, how, { pool, sourceCatalog: from.catalog, targetCatalog: to.catalog });
        });
        progress?.end();
        report(context, result, options['dryRun'] === true);
      } finally {
        progress?.end();
      }
    },
  );
}

/** @throws TimebandError USAGE */
function parseRequests(texts: readonly string[], isAll: boolean): CopyRequest[] | undefined {
  if (isAll !== (texts.length === 0)) throw new TimebandError('copy what? Name volumes or sessions, or give --all.', { code: 'USAGE' });
  return isAll ? undefined : texts.map(splitVolumeAndSession);
}

function report(context: CommandContext, result: CopyResult, isDryRun: boolean): void {
  for (const warning of result.warnings) context.warn(warning);
  const left = result.sessions.filter(({ message }) => message !== undefined);
  for (const { volume, session, message } of left) context.warn(`${volume}@${session} was not copied: ${message}`);
  if (!result.isComplete) context.exitCode = EXIT.incomplete;
  context.print([...describeSessions(result.sessions), describeTotal(result, isDryRun)].join('\n'), {
    status: isDryRun ? 'dry-run' : 'copied',
    sameKeys: result.hasSameKeys,
    sessions: result.sessions.map((one) => ({ ...one, message: one.message ?? null })),
    warnings: result.warnings,
    durationMs: result.durationMs,
  });
}

function describeSessions(sessions: readonly SessionOutcome[]): string[] {
  const rows = sessions
    .filter(({ status }) => status === 'copied' || status === 'planned')
    .map((one) => [one.volume, one.session, String(one.writtenBands), formatBytes(one.writtenBytes), String(one.linkedBands)]);
  return rows.length === 0 ? [] : [formatTable(['VOLUME', 'SESSION', '>BANDS', '>SIZE', '>LINKED'], rows)];
}

/** `Copied 2 session(s), as they are: 24 bands, 48.0 MiB, 380 linked, in 0.4 s; 3 of 5 sessions are there already.` */
function describeTotal({ sessions, hasSameKeys, durationMs }: CopyResult, isDryRun: boolean): string {
  const done = sessions.filter(({ status }) => status === 'copied' || status === 'planned');
  const present = sessions.filter(({ status }) => status === 'present').length;
  const there = present === 0 ? '' : `${present} of ${sessions.length} sessions ${present === 1 ? 'is' : 'are'} there already`;
  if (done.length === 0) return there === '' ? 'There is nothing to copy.' : `Nothing to copy: ${there}.`;
  const sum = (field: 'writtenBands' | 'writtenBytes' | 'linkedBands' | 'resumedBands'): number => done.reduce((all, one) => all + one[field], 0);
  const how = hasSameKeys ? 'as they are' : 'sealed anew';
  const resumed = sum('resumedBands') === 0 ? '' : ` (${sum('resumedBands')} of them by an earlier run)`;
  const counts = `${sum('writtenBands')} bands${resumed}, ${formatBytes(sum('writtenBytes'))}, ${sum('linkedBands')} linked`;
  const time = isDryRun ? '' : `, in ${formatDuration(durationMs)}`;
  return `${isDryRun ? 'Would copy' : 'Copied'} ${done.length} session(s), ${how}: ${counts}${time}${there === '' ? '' : `; ${there}`}.`;
}
