import { checkSameVolume, diffSessions } from '../../diff.ts';
import type { Define } from '../define.ts';
import { formatBytes } from '../text.ts';
import { requireSession } from './sessions.ts';

export function addDiff(define: Define): void {
  define(
    'diff <a> <b>',
    'which byte ranges differ between NAME@A and NAME@B',
    (command) => command,
    async (context, [a, b]) => {
      const from = requireSession(String(a));
      const to = requireSession(String(b));
      checkSameVolume(from.name, to.name);
      await context.withRepository(async (repository) => {
        const volume = await repository.volume(from.name);
        const diff = await diffSessions(volume, await volume.resolve(from.session), await volume.resolve(to.session));
        const lines = diff.ranges.map(({ offset, length }) => `${offset} ${length}`);
        const resized = diff.fromBytes === diff.toBytes ? '' : `; size ${diff.fromBytes} → ${diff.toBytes} bytes`;
        const summary = `# ${diff.volume}: ${diff.from} → ${diff.to}: ${diff.ranges.length} range(s), ${formatBytes(diff.differentBytes)} differ${resized}; offset and length in bytes`;
        context.print([summary, ...lines].join('\n'), diff);
      });
    },
  );
}
