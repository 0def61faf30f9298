import { TimebandError } from '../../../bands/errors.ts';
import { parseSessionId } from '../../../bands/format/session-id.ts';
import { deleteSessions, deleteVolume } from '../../deletion/delete-sessions.ts';
import { TakenLinks } from '../../deletion/shared-files.ts';
import { type PlannedDeletion, planDeletion } from '../../deletion/sizes.ts';
import type { Volume } from '../../volume.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { formatBytes, formatTable, formatTime } from '../text.ts';
import { requireSession } from './sessions.ts';

export function addDelete(define: Define): void {
  define(
    'delete <sessions...>',
    'delete sessions: NAME@SESSION …; no other session loses anything',
    (command) =>
      command
        .option('--even-newest', 'delete the newest session of a volume, too')
        .option('--dry-run', 'only show what would be deleted, and what that frees')
        .option('--yes', 'do not ask'),
    async (context, [sessions], options) => {
      await context.withRepository(async (repository, catalog) => {
        const chosen = new Map<Volume, string[]>();
        const volumes = new Map<string, Volume>();
        for (const { name, session } of (sessions as string[]).map(requireSession)) {
          const volume = volumes.get(name) ?? (await repository.volume(name));
          volumes.set(name, volume);
          chosen.set(volume, [...new Set([...(chosen.get(volume) ?? []), await volume.resolve(session)])]);
        }
        const taken = new TakenLinks();
        const plans: VolumePlan[] = [];
        for (const [volume, ids] of chosen) plans.push({ volume, planned: await planDeletion(volume, ids, taken) });
        const isDryRun = options['dryRun'] === true;
        if (!isDryRun) await confirm(context, describePlans(plans), options['yes'] === true);
        for (const { volume, planned } of isDryRun ? [] : plans) {
          const ids = planned.map(({ session }) => session);
          const evenNewest = options['evenNewest'] === true;
          await deleteSessions(repository, volume, ids, { command: 'delete', evenNewest, catalog });
        }
        const done = isDryRun ? 'Would delete' : 'Deleted';
        context.print(isDryRun ? describePlans(plans) : describeDone(done, plans), {
          status: isDryRun ? 'dry-run' : 'deleted',
          deleted: plans.flatMap(({ volume, planned }) =>
            planned.map(({ session, freedBytes }) => ({ volume: volume.name, session, freedBytes: freedBytes ?? null })),
          ),
        });
      });
    },
  );

  define(
    'delete-volume <name>',
    'delete a volume with all its sessions',
    (command) => command.option('--name <name>', 'its name once more, instead of being asked for it'),
    async (context, [name], options) => {
      await context.withRepository(async (repository, catalog) => {
        const volume = await repository.volume(String(name));
        const sessions = await volume.sessionIds();
        await confirmVolume(context, volume, sessions, options['name']);
        await deleteVolume(repository, volume, { command: 'delete-volume', catalog });
        context.print(`Deleted volume ${volume.name} with ${sessions.length} session(s).`, { volume: volume.name, sessions });
      });
    },
  );
}

interface VolumePlan {
  readonly volume: Volume;
  readonly planned: readonly PlannedDeletion[];
}

function describePlans(plans: readonly VolumePlan[]): string {
  const rows = plans.flatMap(({ volume, planned }) =>
    planned.map(({ session, freedBytes }) => [
      volume.name,
      session,
      formatTime(parseSessionId(session) ?? 0),
      freedBytes === undefined ? '?' : formatBytes(freedBytes),
    ]),
  );
  return formatTable(['VOLUME', 'SESSION', 'TIME', '>FREES'], rows);
}

function describeDone(done: string, plans: readonly VolumePlan[]): string {
  const all = plans.flatMap(({ planned }) => planned);
  const bytes = all.reduce((sum, { freedBytes }) => sum + (freedBytes ?? 0), 0);
  return `${done} ${all.length} session(s); ${formatBytes(bytes)} freed.`;
}

/** Shows what will be done and asks; without a terminal somebody must have said --yes. @throws TimebandError USAGE, INTERRUPTED */
export async function confirm(context: CommandContext, what: string, isAgreed: boolean): Promise<void> {
  if (isAgreed) return;
  const answer = await context.ask(`${what}\nDelete? [y/N] `);
  if (answer === undefined)
    throw new TimebandError('there is no terminal to ask on. Nothing was deleted; look with --dry-run, then use --yes.', { code: 'USAGE' });
  if (!/^y(es)?$/i.test(answer.trim())) throw new TimebandError('nothing was deleted.', { code: 'INTERRUPTED' });
}

async function confirmVolume(context: CommandContext, volume: Volume, sessions: readonly string[], given: unknown): Promise<void> {
  const span = sessions.length === 0 ? 'no session' : `${sessions.length} session(s), from ${sessions[0]} to ${sessions.at(-1)}`;
  const answer =
    typeof given === 'string'
      ? given
      : await context.ask(`Volume ${volume.name} has ${span}. All of them will be lost for good.\nType its name to delete it: `);
  if (answer === undefined)
    throw new TimebandError(`there is no terminal to ask on. Nothing was deleted; say the name once more: --name ${volume.name}`, { code: 'USAGE' });
  if (answer.trim() !== volume.name)
    throw new TimebandError(`"${answer.trim()}" is not the name of the volume. Nothing was deleted.`, { code: 'USAGE' });
}
