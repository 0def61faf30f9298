/** Many processes of two machines on one repository; `npm run storm -- crowd` does it for longer. */
import test from 'ava';
import { runCrowd } from '../../tools/storm/crowd.ts';
import { workspace } from '../support/workspace.ts';

test.serial('what one process commits, all others read, while they prune, delete, check, restore and mount', async (t) => {
  const folder = workspace(t).folder('crowd');
  const report = await runCrowd({ folder, seed: `suite ${Date.now()}`, processes: 6, durationMs: 18_000, tell: () => undefined });
  t.true((report['sync']?.['done'] ?? 0) > 0, JSON.stringify(report));
});
