import { TimebandError } from '../../../bands/errors.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { checkRepository } from '../../check/check.ts';
import { checkWithoutKey } from '../../check/check-without-key.ts';
import { type CheckResult, damagedSessions } from '../../check/findings.ts';
import { parseSubset, type Subset } from '../../check/scope.ts';
import { formatRanges } from '../../damage-log.ts';
import type { RepairResult } from '../../repair/repair.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import { isAllWell, parseRepair, type RepairRequest, repairJson, repairLines, runRepair } from '../check-repair.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { formatBytes, formatDuration, parseTimeSpan } from '../text.ts';
import { runFsck } from './fsck.ts';

export function addCheck(define: Define): void {
  define(
    'check [session]',
    'verify everything, NAME, or NAME@SESSION',
    (command) =>
      command
        .option('--data', 'also decrypt all data and compare digests')
        .option('--subset <part>', 'only some of the band files: 5% (at random), or 2/7 (the second of seven parts)')
        .option('--newest', 'only the newest session of each volume')
        .option('--max-duration <time>', 'stop after 90s, 10m or 2h; what was checked longest ago, or never, comes first')
        .option('--repair', 'mend what can be mended, and list the bands that cannot')
        .option('--from <repository>', 'with --repair: take intact files from this second copy of the repository')
        .option('--dry-run', 'with --repair: only say what it would do')
        .option('--fsck', "run the file systems' own checkers, read-only, over the newest session of each volume, of NAME, or over NAME@SESSION")
        .option('--no-key', 'verify what can be verified without a passphrase'),
    async (context, [text], options) => {
      const { name, session } = typeof text === 'string' ? splitVolumeAndSession(text) : { name: undefined, session: undefined };
      const repair = parseRepair(options, session);
      const how = parseHow(options, { name, session });
      if (options['fsck'] === true) return await runFsck(context, { name, session }, options);
      await using pool = new BandPool();
      const progress = context.progress('check');
      const common = { pool, signal: context.terminal.signal, onProgress: progress?.update };
      try {
        if (repair !== undefined) {
          const wanted = { ...common, volume: name, withData: how.withData };
          const repaired = await context.withRepository((repository, catalog) => runRepair(repository, repair, { ...wanted, catalog }));
          progress?.end();
          for (const warning of repaired.check.warnings) context.warn(warning);
          printResult(context, repaired.check, { ...how, repair: { ...repair, result: repaired } });
          return;
        }
        const result = how.withKey
          ? await context.withRepository((repository, catalog) => checkRepository(repository, { ...common, ...how, volume: name, session, catalog }))
          : await checkWithoutKey(context.repositoryPath, common);
        progress?.end();
        for (const warning of result.warnings) context.warn(warning);
        printResult(context, result, how);
      } finally {
        progress?.end();
      }
    },
  );
}

interface How {
  readonly withKey: boolean;
  readonly withData: boolean;
  readonly isNewestOnly: boolean;
  /** As it was written, for messages. */
  readonly subsetText: string | undefined;
  readonly subset: Subset | undefined;
  readonly maxDurationMs: number | undefined;
}

/** @throws TimebandError USAGE */
function parseHow(
  options: Readonly<Record<string, unknown>>,
  { name, session }: { readonly name: string | undefined; readonly session: string | undefined },
): How {
  const [subset, time] = [options['subset'], options['maxDuration']];
  const how = { withKey: options['key'] !== false, withData: options['data'] === true, isNewestOnly: options['newest'] === true };
  if (!how.withKey && (name !== undefined || how.withData || how.isNewestOnly || subset !== undefined || time !== undefined)) {
    throw new TimebandError('--no-key verifies the whole repository and cannot decrypt: leave out the name and all other options.', {
      code: 'USAGE',
    });
  }
  if (how.isNewestOnly && session !== undefined) {
    throw new TimebandError('--newest and a session exclude each other: name the volume, or the session.', { code: 'USAGE' });
  }
  const maxDurationMs = typeof time === 'string' ? parseTimeSpan(time) : undefined;
  if (time !== undefined && maxDurationMs === undefined)
    throw new TimebandError(`"${time}" is not a length of time; write 90s, 10m (minutes), 2h or 1h30m.`, { code: 'USAGE' });
  const parsed = typeof subset === 'string' ? parseSubset(subset) : undefined;
  return { ...how, subset: parsed, subsetText: parsed === undefined ? undefined : String(subset), maxDurationMs };
}

interface Shown extends How {
  readonly repair?: RepairRequest & { readonly result: RepairResult };
}

function printResult(context: CommandContext, result: CheckResult, how: Shown): void {
  const { repair } = how;
  const damaged = damagedSessions(result.findings);
  const files = how.subset === undefined ? result.bandFiles : `${result.bandFiles} of ${result.bandFiles + result.skippedFiles}`;
  const read = `${result.sessions} session(s), ${files} ${how.withKey ? 'band' : ''} file(s), ${formatBytes(result.readBytes)} read in ${formatDuration(result.durationMs)}`;
  const level = how.withData ? 'data' : how.withKey ? 'structure and checksums' : 'checksums, without the key';
  const depth = `${level}${how.isNewestOnly ? ', newest sessions' : ''}${how.subsetText === undefined ? '' : `, subset ${how.subsetText}`}`;
  const lines = repair === undefined ? [] : repairLines(repair.result, repair.isDryRun);
  for (const one of result.findings) lines.push(`${one.volume}${one.session === undefined ? '' : `@${one.session}`}: ${one.message}`);
  for (const one of damaged) {
    const what = one.ranges.length === 0 ? 'its metadata' : formatRanges(one.ranges);
    lines.push(`DAMAGED ${one.volume}@${one.session}: ${what}`);
  }
  const verdict =
    result.findings.length === 0
      ? `No damage ${repair === undefined || repair.isDryRun ? 'found' : 'left'}: ${read} (${depth}).`
      : `${result.findings.length} finding(s), ${damaged.length} damaged session(s): ${read} (${depth}).`;
  const isWell = repair === undefined ? result.findings.length === 0 : isAllWell(repair.result, repair.isDryRun);
  context.exitCode = isWell ? EXIT.done : EXIT.incomplete;
  if (result.clearedBands > 0) lines.push(`${result.clearedBands} band(s) are whole again and were taken off the damaged list.`);
  if (result.isOutOfTime) lines.push(describeCoverage(result));
  context.print([...lines, verdict].join('\n'), {
    sessions: result.sessions,
    plannedSessions: result.plannedSessions,
    finishedSessions: result.finishedSessions,
    files: result.bandFiles,
    skippedFiles: result.skippedFiles,
    outOfTime: result.isOutOfTime,
    readBytes: result.readBytes,
    durationMs: result.durationMs,
    withKey: how.withKey,
    withData: how.withData,
    subset: how.subsetText ?? null,
    verified: result.verified,
    clearedBands: result.clearedBands,
    warnings: result.warnings,
    findings: result.findings.map((one) => ({ ...one, session: one.session ?? null, range: one.range ?? null })),
    damaged,
    repair: repair === undefined ? null : repairJson(repair.result, repair.isDryRun),
  });
}

function describeCoverage({ plannedSessions, sessions, finishedSessions }: CheckResult): string {
  const counts = `${finishedSessions} of ${plannedSessions} session(s) checked to the end, ${sessions - finishedSessions} in part, ${plannedSessions - sessions} not`;
  const advice = finishedSessions === 0 ? 'give it more time, or check parts with --subset 1/7, 2/7, …' : 'run it again to go on with the others';
  return `Time is up: ${counts}; ${advice}.`;
}
