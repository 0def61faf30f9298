import { repositoryLayout } from '../../layout.ts';
import { breakLocks, type FoundLock } from '../../locks.ts';
import { readConfig } from '../../repository-config.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';

function describe({ holder, file }: FoundLock): string {
  return holder === undefined ? `${file} (unreadable)` : `process ${holder.pid} on ${holder.host} ("${holder.command}", since ${holder.since})`;
}

export function addBreakLock(define: Define): void {
  define(
    'break-lock',
    'remove locks of other machines and of gone processes; use it when you know that they are done',
    (command) => command,
    async (context) => {
      const layout = repositoryLayout(context.repositoryPath);
      await readConfig(layout);
      const { removed, kept } = await breakLocks(layout.locks);
      if (kept.length > 0) context.exitCode = EXIT.incomplete;
      const lines = [
        ...removed.map((lock) => `Removed the lock of ${describe(lock)}.`),
        ...kept.map((lock) => `Kept the lock of ${describe(lock)}: it runs on this machine.`),
      ];
      context.print(lines.length === 0 ? 'There are no locks.' : lines.join('\n'), { removed: removed.map(describe), kept: kept.map(describe) });
    },
  );
}
