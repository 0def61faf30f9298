/** Many rounds of what `test/e2e/bundle-crash.test.ts` does: node dist/test/soak/live-bundle.js [ROUNDS] [FOLDER]. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { BundleRounds } from '../support/bundle-rounds.ts';

const [count = '100', parent = tmpdir()] = process.argv.slice(2);
const root = mkdtempSync(path.join(parent, 'timeband-soak-'));
const rounds = new BundleRounds(root, Math.random);
try {
  while (rounds.counts.rounds < Number(count)) await rounds.round();
} finally {
  process.stdout.write(`${JSON.stringify(rounds.counts)}\n`);
}
rmSync(root, { recursive: true }); // after a failure it is kept to be looked at
