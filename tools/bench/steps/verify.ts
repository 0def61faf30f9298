/** Reading and verifying everything that is stored. */
import { attempt, type BenchContext, diskUse } from '../context.ts';
import { STEP } from '../step-titles.ts';

export async function verifyAll(context: BenchContext): Promise<void> {
  const { runner, report } = context;
  for (const peer of context.found.peers) {
    await attempt(context, { step: STEP.verify, tool: peer.name }, async () => {
      const storedBytes = await diskUse(runner, peer.repository);
      const load = await runner.makeCold();
      const { usage } = await runner.run(peer.check());
      report.add({ step: STEP.verify, tool: peer.name, usage, storedBytes, load });
    });
  }
}
