import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { deleteSessions } from '../../deletion/delete-sessions.ts';
import type { Repository } from '../../repository.ts';
import { parseDuration } from '../../retention/duration.ts';
import { type PrunedSession, type PrunePlan, planPrune } from '../../retention/prune.ts';
import { parseCount, type RetentionRules } from '../../retention/rules.ts';
import type { Volume } from '../../volume.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT, EXIT_CODES } from '../exit-codes.ts';
import { formatBytes, formatTable, formatTime, parseSize } from '../text.ts';
import { confirm } from './delete.ts';

export function addPrune(define: Define): void {
  define(
    'prune [names...]',
    'delete the sessions that no rule keeps, of the named volumes or of all',
    (command) =>
      command
        .option('--keep-last <n>', 'keep the newest N sessions')
        .option('--keep-hourly <n>', 'keep the newest session of each of N hours')
        .option('--keep-daily <n>', 'keep the newest session of each of N days')
        .option('--keep-weekly <n>', 'keep the newest session of each of N weeks')
        .option('--keep-monthly <n>', 'keep the newest session of each of N months')
        .option('--keep-yearly <n>', 'keep the newest session of each of N years')
        .option('--keep-within <duration>', 'keep all sessions at most so much older than the newest: 12h, 30d, 6m, 1y')
        .option('--keep-tag <tag...>', 'keep all sessions with one of these tags')
        .option('--time-machine', 'keep hourly for 24 hours, daily for a month, weekly before that')
        .option('--older-than <duration>', 'delete only sessions that are older than this')
        .option('--min-free <size>', 'then delete the oldest until so much is free on the disk of the repository: 20G')
        .option('--utc', 'days and weeks begin by UTC instead of local time')
        .option('--dry-run', 'only show what would be kept and deleted, and why')
        .option('--yes', 'do not ask'),
    async (context, [names], options) => {
      const rules = parseRules(options);
      const minFreeBytes = parseMinFree(options['minFree']);
      await context.withRepository(async (repository, catalog) => {
        const wanted = names as string[];
        const volumes =
          wanted.length === 0
            ? await readableVolumes(context, repository)
            : await Promise.all([...new Set(wanted)].map((name) => repository.volume(name)));
        const retention = { nowMs: Date.now(), timeZone: options['utc'] === true ? ('utc' as const) : ('local' as const) };
        const plan = await planPrune(repository, volumes, { rules, minFreeBytes, options: retention }, catalog);
        const doomed = plan.sessions.filter(({ action }) => action === 'delete');
        for (const tag of rules?.keepTags ?? [])
          if (!plan.sessions.some(({ tags }) => tags.includes(tag)))
            context.warn(`no session has the tag "${tag}" of --keep-tag. Is it spelled right?`);
        for (const { volume, id, problem } of plan.sessions) {
          if (problem === undefined) continue;
          context.warn(`${volume.name}@${id} is kept, as it may be protected: ${problem}`);
          context.exitCode = EXIT.incomplete;
        }
        const isDryRun = options['dryRun'] === true;
        if (!isDryRun && doomed.length > 0) await confirm(context, describePlan(plan), options['yes'] === true);
        const failures = isDryRun
          ? []
          : await deleteAll(context, doomed, (volume, ids) =>
              deleteSessions(repository, volume, ids, { command: 'prune', sparesProtected: true, catalog }),
            );
        if (!plan.hasRoom) {
          context.warn('all that may be deleted does not make the room that was asked for. Protected sessions and the newest of each volume stay.');
          context.exitCode = EXIT.incomplete;
        }
        const done = doomed.filter(({ volume }) => failures.every((failure) => failure.volume !== volume.name));
        const summary = `${isDryRun ? 'Would delete' : 'Deleted'} ${done.length} of ${plan.sessions.length} session(s); ${formatBytes(freedBytes(done))} freed.`;
        context.print(isDryRun ? `${describePlan(plan)}\n${summary}` : summary, toJson(plan, { isDryRun, failures }));
      });
    },
  );
}

async function readableVolumes(context: CommandContext, repository: Repository): Promise<readonly Volume[]> {
  const { volumes, damaged } = await repository.listReadableVolumes();
  context.passOver(damaged);
  return volumes;
}

interface Failure {
  readonly volume: string;
  readonly message: string;
}

/** Deletes volume by volume: one that is in use does not keep the others from being pruned. */
async function deleteAll(
  context: CommandContext,
  doomed: readonly PrunedSession[],
  run: (volume: Volume, ids: readonly string[]) => Promise<void>,
): Promise<Failure[]> {
  const failures: Failure[] = [];
  const volumes = [...new Set(doomed.map(({ volume }) => volume))];
  for (const volume of volumes) {
    const sessions = doomed.filter((session) => session.volume === volume);
    try {
      await run(
        volume,
        sessions.map(({ id }) => id),
      );
    } catch (error) {
      if (volumes.length === 1 || !(error instanceof TimebandError)) throw error;
      context.warn(`${volume.name}: ${messageOf(error)}`);
      context.exitCode = failures.length === volumes.length - 1 ? EXIT_CODES[error.code] : EXIT.incomplete;
      failures.push({ volume: volume.name, message: messageOf(error) });
    }
  }
  return failures;
}

function parseRules(options: Readonly<Record<string, unknown>>): RetentionRules | undefined {
  const count = (name: string): number | undefined => (typeof options[name] === 'string' ? parseCount(options[name]) : undefined);
  const duration = (name: string): RetentionRules['keepWithin'] => (typeof options[name] === 'string' ? parseDuration(options[name]) : undefined);
  const rules: RetentionRules = {
    keepLast: count('keepLast'),
    keepHourly: count('keepHourly'),
    keepDaily: count('keepDaily'),
    keepWeekly: count('keepWeekly'),
    keepMonthly: count('keepMonthly'),
    keepYearly: count('keepYearly'),
    keepWithin: duration('keepWithin'),
    keepTags: options['keepTag'] as string[] | undefined,
    timeMachine: options['timeMachine'] === true ? true : undefined,
    olderThan: duration('olderThan'),
  };
  const isGiven = Object.values(rules).some((value) => value !== undefined);
  return isGiven || options['minFree'] === undefined ? rules : undefined; // no rule at all: refused with what there is
}

function parseMinFree(option: unknown): number | undefined {
  if (typeof option !== 'string') return undefined;
  const bytes = parseSize(option);
  if (bytes === undefined) throw new TimebandError(`"${option}" is not a size; write 500M, 20G …`, { code: 'USAGE' });
  return bytes;
}

function freedBytes(sessions: readonly PrunedSession[]): number {
  return sessions.reduce((sum, session) => sum + (session.freedBytes ?? 0), 0);
}

function describePlan({ sessions }: PrunePlan): string {
  const rows = sessions.map(({ volume, id, timeMs, action, reasons, freedBytes: freed }) => [
    volume.name,
    id,
    formatTime(timeMs),
    action,
    action === 'keep' ? '' : freed === undefined ? '?' : formatBytes(freed),
    reasons.join('; '),
  ]);
  return formatTable(['VOLUME', 'SESSION', 'TIME', 'ACTION', '>FREES', 'WHY'], rows);
}

function toJson(plan: PrunePlan, done: { readonly isDryRun: boolean; readonly failures: readonly Failure[] }): unknown {
  return {
    status: done.isDryRun ? 'dry-run' : 'pruned',
    sessions: plan.sessions.map(({ volume, id, action, reasons, freedBytes: freed }) => ({
      volume: volume.name,
      session: id,
      action,
      reasons,
      freedBytes: freed ?? null,
    })),
    hasRoom: plan.hasRoom,
    failures: done.failures,
  };
}
