import { TimebandError } from '../../../bands/errors.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { checkRepository } from '../../check/check.ts';
import { checkWithoutKey } from '../../check/check-without-key.ts';
import { type CheckResult, damagedSessions } from '../../check/findings.ts';
import { formatRanges } from '../../restore.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { formatBytes, formatDuration } from '../text.ts';

export function addCheck(define: Define): void {
  define(
    'check [session]',
    'verify everything, NAME, or NAME@SESSION',
    (command) =>
      command.option('--data', 'also decrypt all data and compare digests').option('--no-key', 'verify what can be verified without a passphrase'),
    async (context, [text], options) => {
      const { name, session } = typeof text === 'string' ? splitVolumeAndSession(text) : { name: undefined, session: undefined };
      const withKey = options['key'] !== false;
      if (!withKey && (name !== undefined || options['data'] === true)) {
        throw new TimebandError('--no-key verifies the whole repository and cannot decrypt: leave out the name and --data.', { code: 'USAGE' });
      }
      await using pool = new BandPool();
      const progress = context.progress('check');
      const common = { pool, signal: context.terminal.signal, onProgress: progress?.update };
      try {
        const result = withKey
          ? await context.withRepository((repository, catalog) =>
              checkRepository(repository, { ...common, volume: name, session, withData: options['data'] === true, catalog }),
            )
          : await checkWithoutKey(context.repositoryPath, common);
        progress?.end();
        printResult(context, result, { withKey, withData: options['data'] === true });
      } finally {
        progress?.end();
      }
    },
  );
}

function printResult(context: CommandContext, result: CheckResult, how: { readonly withKey: boolean; readonly withData: boolean }): void {
  const damaged = damagedSessions(result.findings);
  const read = `${result.sessions} session(s), ${result.bandFiles} ${how.withKey ? 'band' : ''} file(s), ${formatBytes(result.readBytes)} read in ${formatDuration(result.durationMs)}`;
  const depth = how.withData ? 'data' : how.withKey ? 'structure and checksums' : 'checksums, without the key';
  const lines = result.findings.map((one) => `${one.volume}${one.session === undefined ? '' : `@${one.session}`}: ${one.message}`);
  for (const one of damaged) {
    const what = one.ranges.length === 0 ? 'its metadata' : formatRanges(one.ranges);
    lines.push(`DAMAGED ${one.volume}@${one.session}: ${what}`);
  }
  const verdict =
    result.findings.length === 0
      ? `No damage found: ${read} (${depth}).`
      : `${result.findings.length} finding(s), ${damaged.length} damaged session(s): ${read} (${depth}).`;
  context.exitCode = result.findings.length === 0 ? EXIT.done : EXIT.incomplete;
  context.print([...lines, verdict].join('\n'), {
    sessions: result.sessions,
    files: result.bandFiles,
    readBytes: result.readBytes,
    durationMs: result.durationMs,
    withKey: how.withKey,
    withData: how.withData,
    findings: result.findings.map((one) => ({ ...one, session: one.session ?? null, range: one.range ?? null })),
    damaged,
  });
}
