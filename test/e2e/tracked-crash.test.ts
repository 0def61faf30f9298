/** kill -9 of the process behind a tracked image, and of syncs, while it is written to. `test/soak/tracked-image.ts` runs more rounds of the same. */
import { mkdirSync } from 'node:fs';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { lab } from '../support/library.ts';
import { TrackedRounds } from '../support/tracked-rounds.ts';

const ROUNDS = 12;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

test('every session is the image of one instant, no write is lost and no band missed, whoever is killed', async (t) => {
  const at = await lab(t, pool);
  mkdirSync(at.at('mnt'));
  const rounds = new TrackedRounds({ root: at.root, repository: at.repository, pool, random: Math.random });
  await rounds.attach();
  for (let i = 0; i < ROUNDS; i++) await rounds.round();
  await rounds.detach();
  t.log(rounds.counts);
  t.true(rounds.counts.killedDrivers >= 4 && rounds.counts.frozenSessions > 0 && rounds.counts.knownChanges >= ROUNDS / 2);
});
