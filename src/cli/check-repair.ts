/** `check --repair`: what it takes, and how it is told. */
import { realpath } from 'node:fs/promises';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { repositoryConfigCodec } from '../../bands/format/repository-config.ts';
import { wipeGrant } from '../keys/key-ring.ts';
import { type RepairOptions, type RepairResult, repairRepository } from '../repair/repair.ts';
import type { RepairAction } from '../repair/repair-log.ts';
import { Repository } from '../repository.ts';

/** What `--repair` asks for; undefined: only to check. */
export interface RepairRequest {
  readonly isDryRun: boolean;
  /** A second copy of the repository. */
  readonly from: string | undefined;
}

/** Options of `check` that go together with a repair of everything, or of a volume. */
const PARTIAL = ['subset', 'newest', 'maxDuration', 'fsck'];

/** @throws TimebandError USAGE */
export function parseRepair(options: Readonly<Record<string, unknown>>, session: string | undefined): RepairRequest | undefined {
  const { repair, from, dryRun } = options;
  if (repair !== true) {
    if (from === undefined && dryRun !== true) return undefined;
    throw new TimebandError('--from and --dry-run go with --repair.', { code: 'USAGE' });
  }
  if (session !== undefined || options['key'] === false || PARTIAL.some((name) => options[name] !== undefined)) {
    throw new TimebandError(
      '--repair mends everything, or one volume, with the key: leave out the session and all options but --data, --from and --dry-run.',
      { code: 'USAGE' },
    );
  }
  return { isDryRun: dryRun === true, from: typeof from === 'string' ? from : undefined };
}

/** Repairs, with the second copy open meanwhile. @throws TimebandError as repairRepository, and what opening the copy throws */
export async function runRepair(
  repository: Repository,
  { isDryRun, from }: RepairRequest,
  options: Omit<RepairOptions, 'copy' | 'isDryRun'>,
): Promise<RepairResult> {
  if (from === undefined) return await repairRepository(repository, { ...options, isDryRun });
  using copy = await openCopy(repository, from);
  return await repairRepository(repository, { ...options, isDryRun, copy });
}

async function openCopy(repository: Repository, from: string): Promise<Repository> {
  const key = repository.exportKey();
  const copy = await Repository.open(from, key).finally(() => wipeGrant(key));
  const isCopy = equalBytes(repositoryConfigCodec.encode(copy.config), repositoryConfigCodec.encode(repository.config));
  if (isCopy && (await realPath(copy.layout.root)) !== (await realPath(repository.layout.root))) return copy;
  copy.close();
  const problem = isCopy ? 'the same folder, not a second copy' : 'another repository, not a copy of this one';
  throw new TimebandError(`${from} is ${problem}. Nothing was changed.`, { code: 'USAGE', path: from });
}

async function realPath(folder: string): Promise<string> {
  try {
    return await realpath(folder);
  } catch (error) {
    throw ioError(error, 'look at', folder);
  }
}

/** A line for each thing that was, or would be, done. */
export function repairLines({ actions, listedBands }: RepairResult, isDryRun: boolean): string[] {
  const lines = actions.map((action) => `${isDryRun ? 'WOULD REPAIR' : action.isLoss ? 'REPLACED' : 'REPAIRED'} ${subjectOf(action)}: ${action.how}`);
  if (listedBands === 0) return lines;
  const listed = isDryRun ? 'would be' : 'are';
  lines.push(
    `${listedBands} damaged band(s) ${listed} on the damaged list. The next sync heals those that the source still holds; --repair --from REPOSITORY takes them from a second copy.`,
  );
  return lines;
}

function subjectOf({ volume, session, what }: RepairAction): string {
  const where = volume === undefined ? '' : ` of ${volume}${session === undefined ? '' : `@${session}`}`;
  return `${what}${where}`;
}

/** The repair as data. */
export function repairJson({ actions, mendedBands, listedBands }: RepairResult, isDryRun: boolean): object {
  return {
    dryRun: isDryRun,
    actions: actions.map(({ volume, session, what, how, isLoss }) => ({ volume: volume ?? null, session: session ?? null, what, how, isLoss })),
    mendedBands,
    listedBands,
  };
}

/** Whether everything is well now: nothing damaged is left, nothing was lost, and a dry run found nothing to do. */
export function isAllWell({ check, actions }: RepairResult, isDryRun: boolean): boolean {
  return check.findings.length === 0 && !actions.some(({ isLoss }) => isLoss) && !(isDryRun && actions.length > 0);
}
