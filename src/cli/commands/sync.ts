import { messageOf, TimebandError } from '../../../bands/errors.ts';
import type { ByteRange } from '../../../bands/format/geometry.ts';
import type { Padding } from '../../../bands/format/padding.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { readChangedRanges } from '../../sources/changed-ranges.ts';
import type { SyncOptions, SyncResult } from '../../sync/request.ts';
import type { SpaceReport } from '../../sync/space.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT, EXIT_CODES } from '../exit-codes.ts';
import { formatBytes, formatDuration, parseSize } from '../text.ts';

interface Failure {
  readonly volume: string;
  readonly error: unknown;
}

export function addSync(define: Define): void {
  define(
    'sync <volumes...>',
    'back up: NAME=SOURCE the first time, NAME later',
    (command) =>
      command
        .option('--tag <tag...>', 'name the new session')
        .option('--note <text>', 'a note on the new session', '')
        .option('--band-size <size>', 'for a new volume: 256K to 64M, a power of two (2M)')
        .option('--domain <name>', 'for a new volume: share equal bands with the other volumes of this key domain (clones of a template)')
        .option('--pad <how>', 'for a new volume: round the sizes of band files up, to hide how well each compresses: padme, or 4K to a band')
        .option('--force', 'make a session even if nothing changed')
        .option('--dry-run', 'report what would be stored, and store nothing')
        .option('--accept-rollback', 'go on although the newest session is older or another than this machine has seen')
        .option('--source <kind>', 'how to read SOURCE, instead of the best way that applies (see "sources")')
        .option('--verify-changes', 'read everything, and report what the source should have named as changed')
        .option('--changed-ranges <file>', 'read only these ranges: lines "OFFSET LENGTH" in bytes; needs --since')
        .option('--since <session>', 'the session that the changed ranges count from'),
    async (context, [volumes], options) => {
      const requests = (volumes as string[]).map(parseRequest);
      const changes = await readChanges(options, requests.length);
      await using pool = new BandPool(); // threads start while the key is derived
      const loading = Promise.all([import('../../sync/sync.ts'), import('../../sources/open-source.ts')]); // and so does the code
      loading.catch(() => undefined); // thrown where it is waited for
      const results: SyncResult[] = [];
      const failures: Failure[] = [];
      await context.withRepository(async (repository, catalog) => {
        const [{ syncVolume }, { checkSourceKind }] = await loading;
        for (const request of requests) {
          const progress = context.progress(request.name);
          try {
            const told = new Set<string>();
            const onWarning = (message: string): void => {
              told.add(message);
              context.warn(message);
            };
            const more = { changes, signal: context.terminal.signal, onProgress: progress?.update, onWarning };
            const sourceKind = typeof options['source'] === 'string' ? checkSourceKind(options['source']) : undefined;
            const syncOptions = { ...toSyncOptions(request, options, more), sourceKind };
            const result = await syncVolume(repository, syncOptions, { catalog, pool, stateDirectory: context.stateDirectory });
            progress?.end();
            results.push(result);
            for (const warning of result.warnings) if (!told.has(warning)) context.warn(warning);
            if (result.missedBands > 0) context.exitCode = EXIT.incomplete;
            if (context.options.json !== true) context.print(describeResult(result), undefined);
          } catch (error) {
            progress?.end();
            if (requests.length === 1) throw error;
            failures.push({ volume: request.name, error });
            context.terminal.stderr.write(`timeband: ${request.name}: ${messageOf(error)}\n`);
            if (context.terminal.signal.aborted) break; // what was done before is still told
          }
        }
      });
      finish(context, results, failures);
    },
  );
}

function finish(context: CommandContext, results: readonly SyncResult[], failures: readonly Failure[]): void {
  if (context.options.json === true) {
    const failed = failures.map(({ volume, error }) => ({
      volume,
      code: error instanceof TimebandError ? error.code : 'INTERNAL',
      message: messageOf(error),
    }));
    context.print('', {
      results: results.map((result) => ({ ...result, session: result.session ?? null, base: result.base ?? null })),
      failures: failed,
    });
  }
  const first = failures[0]?.error;
  if (context.terminal.signal.aborted && first !== undefined) context.exitCode = EXIT.interrupted;
  else if (first !== undefined)
    context.exitCode = results.length > 0 ? EXIT.incomplete : first instanceof TimebandError ? EXIT_CODES[first.code] : EXIT.failed;
}

interface SyncRequest {
  readonly name: string;
  readonly location: string | undefined;
}

/** Splits `NAME=SOURCE`; a name has no "=", a source may. */
export function parseRequest(text: string): SyncRequest {
  const at = text.indexOf('=');
  if (at === 0 || at === text.length - 1)
    throw new TimebandError(`"${text}": give NAME=SOURCE, or NAME of a volume that was backed up before.`, { code: 'USAGE' });
  return at < 0 ? { name: text, location: undefined } : { name: text.slice(0, at), location: text.slice(at + 1) };
}

async function readChanges(options: Readonly<Record<string, unknown>>, count: number): Promise<SyncOptions['changes']> {
  const { changedRanges: file, since } = options;
  if (file === undefined && since === undefined) return undefined;
  if (typeof file !== 'string' || typeof since !== 'string' || count !== 1) {
    throw new TimebandError('--changed-ranges FILE and --since SESSION go together, with one volume.', { code: 'USAGE' });
  }
  const ranges: readonly ByteRange[] = await readChangedRanges(file);
  return { since, ranges };
}

function toSyncOptions(
  request: SyncRequest,
  options: Readonly<Record<string, unknown>>,
  more: Pick<SyncOptions, 'changes' | 'signal' | 'onProgress' | 'onWarning'>,
): SyncOptions {
  return {
    ...request,
    ...more,
    tags: (options['tag'] as string[] | undefined) ?? [],
    note: String(options['note']),
    bandBytes: typeof options['bandSize'] === 'string' ? parseBandSize(options['bandSize']) : undefined,
    domain: typeof options['domain'] === 'string' ? options['domain'] : undefined,
    padding: typeof options['pad'] === 'string' ? parsePadding(options['pad']) : undefined,
    isForced: options['force'] === true,
    isDryRun: options['dryRun'] === true,
    verifiesChanges: options['verifyChanges'] === true,
    acceptsRollback: options['acceptRollback'] === true,
  };
}

function parseBandSize(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new TimebandError(`"${text}" is not a size; write 256K, 512K, 1M, 2M …`, { code: 'USAGE' });
  return bytes;
}

function parsePadding(text: string): Padding {
  const padding = text === 'padme' ? text : parseSize(text);
  if (padding === undefined) throw new TimebandError(`"${text}" is not a way to pad: write padme, or a size: 64K, 256K, 1M …`, { code: 'USAGE' });
  return padding;
}

/** The closing summary of one volume. */
export function describeResult(result: SyncResult): string {
  const healed = result.healedBands === 0 ? '' : `; ${result.healedBands} damaged band(s) of earlier sessions healed`;
  const read = `read ${formatBytes(result.readBytes)} of ${formatBytes(result.sizeBytes)} in ${formatDuration(result.durationMs)}${healed}`;
  if (result.status === 'unchanged') return `${result.volume}: nothing changed since session ${result.session}, no new session made (${read})`;
  const shared = result.sharedBands === 0 ? '' : `; ${result.sharedBands} found in the key domain (${formatBytes(result.sharedBytes)})`;
  const resumed = result.resumedBands === 0 ? '' : `, ${result.resumedBands} of them by a sync that was interrupted`;
  const counts = `${result.changedBands} of ${result.bands} bands changed; ${result.writtenBands} stored (${formatBytes(result.writtenBytes)}${describePadding(result)}${resumed})${shared}`;
  if (result.status === 'dry-run') return `${result.volume}: would make a session: ${counts}; ${read}\n  ${describeSpace(result.space)}`;
  return `${result.volume}: session ${result.session}\n  ${counts}, ${result.linkedBands} linked, ${result.zeroBands} zero\n  ${read}; the session holds ${formatBytes(result.storedBytes)}`;
}

function describePadding({ paddedBytes, writtenBytes }: SyncResult): string {
  return paddedBytes === 0 ? '' : `, ${formatBytes(paddedBytes)} or ${((100 * paddedBytes) / writtenBytes).toFixed(1)} % of it padding`;
}

function describeSpace({ likelyBytes, likelyInodes, freeBytes, freeInodes }: SpaceReport): string {
  const inodes = freeInodes === null ? '' : ` and ${freeInodes} file(s)`;
  return `it takes ${formatBytes(likelyBytes)} and ${likelyInodes} file(s) of the repository's disk; free: ${formatBytes(freeBytes)}${inodes}`;
}
