/** kill -9 at random moments of every command that writes; `npm run storm -- kills` does it for longer. */
import test from 'ava';
import { KILL_COMMANDS } from '../../tools/storm/kill-commands.ts';
import { runKills } from '../../tools/storm/kills.ts';
import { workspace } from '../support/workspace.ts';

const KILLS = 25;
/** A slow machine kills fewer. */
const MAX_DURATION_MS = 45_000;
const LEAST_KILLS = 3;

test.serial('whatever is killed, all sessions are whole, nothing else has changed, and the next sync clears what was left', async (t) => {
  const lines: string[] = [];
  const report = await runKills({
    folder: workspace(t).folder('kills'),
    seed: `suite ${Date.now()}`,
    kills: KILLS,
    maxDurationMs: MAX_DURATION_MS,
    tell: (line) => lines.push(line),
  });
  const killed = Object.values(report).reduce((sum, { none, part, all }) => sum + none + part + all, 0);
  t.true(killed >= LEAST_KILLS, lines.join('\n'));
  t.true(Object.keys(report).every((name) => KILL_COMMANDS.some((command) => command.name === name)));
});
