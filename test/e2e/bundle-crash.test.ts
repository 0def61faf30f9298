/** kill -9 of the process behind a live bundle while it is written to. `test/soak/live-bundle.ts` runs more rounds of the same. */
import test from 'ava';
import { BundleRounds } from '../support/bundle-rounds.ts';
import { workspace } from '../support/workspace.ts';

const ROUNDS = 6;

test('what was written through a live bundle is there after kill -9, and file systems on it are clean', async (t) => {
  const rounds = new BundleRounds(workspace(t).root, Math.random);
  for (let i = 0; i < ROUNDS; i++) await rounds.round();
  t.log(rounds.counts);
  t.true(rounds.counts.writes > 0 && rounds.counts.cutWrites === 4);
});
