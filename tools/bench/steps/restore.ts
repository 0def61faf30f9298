/** Restoring the newest backup to a new file, which must be the image, byte for byte. */
import { stat } from 'node:fs/promises';
import { attempt, type BenchContext } from '../context.ts';
import { addUsage } from '../measure.ts';
import type { Peer } from '../peers/peer.ts';
import { STEP } from '../step-titles.ts';

export async function restoreAll(context: BenchContext): Promise<void> {
  for (const peer of context.found.peers) {
    await attempt(context, { step: STEP.restore, tool: peer.name }, () => restoreOne(context, peer));
  }
}

async function restoreOne({ runner, report, workspace, source }: BenchContext, peer: Peer): Promise<void> {
  const directory = await workspace.fresh('restored');
  try {
    const { command, file } = peer.restore(directory);
    const load = await runner.makeCold();
    const restored = await runner.run(command);
    const synced = await runner.run({ argv: ['sync', file] });
    await runner.run({ argv: ['cmp', source.image, file] });
    const allocated = ((await stat(file)).blocks * 512) / 1_048_576;
    const usage = addUsage(restored.usage, synced.usage);
    report.add({
      step: STEP.restore,
      tool: peer.name,
      usage,
      load,
      note: `with sync of the file; equal to the image; ${allocated.toFixed(0)} MiB allocated`,
    });
  } finally {
    await workspace.remove(directory);
  }
}
