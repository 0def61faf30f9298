import type { Labels } from '../../../bands/format/labels.ts';
import type { VolumeRecord } from '../../../bands/format/volume-record.ts';
import { changeLabels } from '../../labels.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { requireSession } from './sessions.ts';

export function addLabels(define: Define): void {
  define(
    'tag <session> <tags...>',
    'add tags to NAME@SESSION',
    (command) => command,
    (context, [session, tags]) => change(context, session, (labels) => ({ ...labels, tags: [...labels.tags, ...(tags as string[])] })),
  );
  define(
    'untag <session> <tags...>',
    'take tags from NAME@SESSION',
    (command) => command,
    (context, [session, tags]) =>
      change(context, session, (labels) => ({ ...labels, tags: labels.tags.filter((tag) => !(tags as string[]).includes(tag)) })),
  );
  define(
    'protect <session>',
    'no prune removes NAME@SESSION',
    (command) => command,
    (context, [session]) => change(context, session, (labels) => ({ ...labels, isProtected: true })),
  );
  define(
    'unprotect <session>',
    'prune may remove NAME@SESSION again',
    (command) => command,
    (context, [session]) => change(context, session, (labels) => ({ ...labels, isProtected: false })),
  );
  define(
    'note <name> <text>',
    'change the note of NAME@SESSION, or of the volume NAME',
    (command) => command,
    async (context, [name, text]) => {
      if (String(name).includes('@')) await change(context, name, (labels) => ({ ...labels, note: String(text) }));
      else await changeRecord(context, String(name), (record) => ({ ...record, note: String(text) }));
    },
  );
  define(
    'rename <name> <new>',
    'give a volume another name; no session is touched',
    (command) => command,
    (context, [name, renamed]) => changeRecord(context, String(name), (record) => ({ ...record, name: String(renamed) })),
  );
}

async function change(context: CommandContext, text: unknown, edit: (labels: Labels) => Labels): Promise<void> {
  const { name, session } = requireSession(String(text));
  await context.withRepository(async (repository) => {
    const volume = await repository.volume(name);
    const sessionId = await volume.resolve(session);
    const { tags, note, isProtected } = await changeLabels(repository, { volume, sessionId }, edit);
    const parts = [
      tags.length === 0 ? 'no tags' : `tags ${tags.join(', ')}`,
      isProtected ? 'protected' : 'not protected',
      ...(note === '' ? [] : [`"${note}"`]),
    ];
    context.print(`${name}@${sessionId}: ${parts.join('; ')}`, { volume: name, session: sessionId, tags, note, protected: isProtected });
  });
}

async function changeRecord(context: CommandContext, name: string, edit: (record: VolumeRecord) => VolumeRecord): Promise<void> {
  await context.withRepository(async (repository) => {
    const volume = await repository.volume(name);
    const { name: renamed, note } = await repository.changeVolume(volume, edit);
    context.print(`${renamed}${note === '' ? '' : `: "${note}"`}`, { volume: renamed, id: volume.id, note });
  });
}
