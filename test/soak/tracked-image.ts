/** Many rounds of what `test/e2e/tracked-crash.test.ts` does: node dist/test/soak/tracked-image.js [ROUNDS] [FOLDER]. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import { makeFastRepository } from '../support/library.ts';
import { TrackedRounds } from '../support/tracked-rounds.ts';
import { PASSPHRASE } from '../support/workspace.ts';

const [count = '200', parent = tmpdir()] = process.argv.slice(2);
const root = mkdtempSync(path.join(parent, 'timeband-soak-'));
mkdirSync(path.join(root, 'mnt'));
await makeFastRepository(path.join(root, 'repo'));
await using pool = new BandPool();
using repository = await Repository.open(path.join(root, 'repo'), { passphrase: PASSPHRASE });
const rounds = new TrackedRounds({ root, repository, pool, random: Math.random });
await rounds.attach();
try {
  while (rounds.counts.rounds < Number(count)) await rounds.round();
} finally {
  await rounds.detach();
  process.stdout.write(`${JSON.stringify(rounds.counts)}\n`);
}
rmSync(root, { recursive: true }); // after a failure it is kept to be looked at
