/** `check --fsck`: a check of its own, beside what "check" proves of the repository. */
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import type { CheckedFileSystem } from '../../mount/fsck.ts';
import type { Repository } from '../../repository.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-codes.ts';

interface Target {
  readonly volume: string;
  readonly session: string;
}

interface Failure extends Target {
  readonly code: string;
  readonly message: string;
}

const OTHERS = { data: false, subset: undefined, maxDuration: undefined, key: true } as const;

/** @throws TimebandError USAGE, PERMISSION_DENIED, VOLUME_NOT_FOUND, SESSION_NOT_FOUND, INTERRUPTED, or what failed if there is one session only */
export async function runFsck(
  context: CommandContext,
  asked: { readonly name: string | undefined; readonly session: string | undefined },
  options: Readonly<Record<string, unknown>>,
): Promise<void> {
  if (Object.entries(OTHERS).some(([name, usual]) => (options[name] ?? usual) !== usual))
    throw new TimebandError('--fsck is a check of its own: leave out --data, --subset, --max-duration and --no-key.', { code: 'USAGE' });
  const { checkFileSystems, requireRootForFsck } = await import('../../mount/fsck.ts'); // with FUSE: only where it is needed
  requireRootForFsck();
  const found: CheckedFileSystem[] = [];
  const failures: Failure[] = [];
  await context.withRepository(async (repository) => {
    const targets = await findTargets(context, repository, asked);
    for (const target of targets) {
      try {
        const more = { stateDirectory: context.stateDirectory, signal: context.terminal.signal };
        found.push(...(await checkFileSystems(repository, { ...target, ...more })));
      } catch (error) {
        if (targets.length === 1 || context.terminal.signal.aborted || !(error instanceof TimebandError)) throw error;
        failures.push({ ...target, code: error.code, message: messageOf(error) });
        context.warn(messageOf(error));
      }
    }
  });
  report(context, found, failures);
}

/** The session that is named; else the newest one of the volume, or of all. */
async function findTargets(
  context: CommandContext,
  repository: Repository,
  { name, session }: { readonly name: string | undefined; readonly session: string | undefined },
): Promise<Target[]> {
  if (name !== undefined) return [{ volume: name, session: await (await repository.volume(name)).resolve(session) }];
  const { volumes, damaged } = await repository.listReadableVolumes();
  context.passOver(damaged);
  const targets: Target[] = [];
  for (const volume of volumes) {
    const newest = (await volume.sessionIds()).at(-1);
    if (newest !== undefined) targets.push({ volume: volume.name, session: newest });
  }
  return targets;
}

function report(context: CommandContext, found: readonly CheckedFileSystem[], failures: readonly Failure[]): void {
  const isChecked = ({ verdict }: CheckedFileSystem): boolean => verdict === 'clean' || verdict === 'nothing';
  if (!found.every(isChecked) || !found.some(({ verdict }) => verdict !== 'nothing') || failures.length > 0) context.exitCode = EXIT.incomplete;
  const count = (verdict: CheckedFileSystem['verdict']): number => found.filter((one) => one.verdict === verdict).length;
  const summary = `${count('clean')} file system(s) without errors, ${count('damaged')} damaged, ${count('unclear')} unclear, ${count('skipped')} not checked.`;
  context.print([...found.map(describe), summary].join('\n'), {
    fileSystems: found.map((one) => ({
      ...one,
      partition: one.partition ?? null,
      fileSystem: one.fileSystem ?? null,
      tool: one.tool ?? null,
      status: one.status ?? null,
    })),
    failures,
  });
}

function describe({ volume, session, partition, fileSystem, verdict, message, output }: CheckedFileSystem): string {
  const where = `${volume}@${session}${partition === undefined ? '' : `, partition ${partition}`}`;
  const line = `${verdict === 'damaged' ? 'DAMAGED ' : ''}${where}${fileSystem === undefined ? '' : `, ${fileSystem}`}: ${verdict}: ${message}`;
  const isShown = verdict === 'damaged' || verdict === 'unclear';
  return isShown && output !== '' ? `${line}\n${output.replaceAll(/^/gm, '    ')}` : line;
}
