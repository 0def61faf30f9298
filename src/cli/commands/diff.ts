import { type ByteRange, mergeRanges } from '../../../bands/format/geometry.ts';
import { formatRanges } from '../../damage-log.ts';
import { knownDamage, listedBands } from '../../damaged-bands.ts';
import { checkSameVolume, diffSessions } from '../../diff.ts';
import type { Volume } from '../../volume.ts';
import type { CommandContext } from '../context.ts';
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
        const damaged = await damagedIn(context, volume, [diff.from, diff.to]);
        if (damaged.length > 0) context.warn(`known to be damaged in one of the two: ${formatRanges(damaged)}. What differs is right all the same.`);
        const lines = diff.ranges.map(({ offset, length }) => `${offset} ${length}`);
        const resized = diff.fromBytes === diff.toBytes ? '' : `; size ${diff.fromBytes} → ${diff.toBytes} bytes`;
        const summary = `# ${diff.volume}: ${diff.from} → ${diff.to}: ${diff.ranges.length} range(s), ${formatBytes(diff.differentBytes)} differ${resized}; offset and length in bytes`;
        context.print([summary, ...lines].join('\n'), { ...diff, damaged });
      });
    },
  );
}

/** What is on the damaged list of these sessions. */
async function damagedIn(context: CommandContext, volume: Volume, sessionIds: readonly string[]): Promise<ByteRange[]> {
  const list = await knownDamage(volume, (message) => context.warn(message));
  const ranges: ByteRange[] = [];
  for (const id of list.length === 0 ? [] : new Set(sessionIds)) {
    for (const { range } of await listedBands(await volume.openSession(id), list)) ranges.push(range);
  }
  return mergeRanges(ranges.sort((a, b) => a.offset - b.offset));
}
