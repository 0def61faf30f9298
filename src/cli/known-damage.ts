/** What is known to be damaged of a session that is about to be opened for reading. */
import { formatRanges } from '../damage-log.ts';
import { knownDamage, listedBands } from '../damaged-bands.ts';
import type { Volume } from '../volume.ts';
import type { CommandContext } from './context.ts';

/** Warns of bands of the session `id` that stand on the volume's damaged list. */
export async function warnOfKnownDamage(context: CommandContext, volume: Volume, id: string): Promise<void> {
  const list = await knownDamage(volume, (message) => context.warn(message));
  const damaged = list.length === 0 ? [] : await listedBands(await volume.openSession(id), list);
  if (damaged.length > 0) context.warn(`known to be damaged: ${formatRanges(damaged.map(({ range }) => range))}; reading there fails (EIO).`);
}
