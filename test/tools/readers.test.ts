/** Many processes read a mount; `npm run storm -- readers` lets them read for longer. */
import test from 'ava';
import { runReaders } from '../../tools/storm/readers.ts';
import { workspace } from '../support/workspace.ts';

test.serial('whatever many processes read from a mount is right, and nothing of the process that serves it grows', async (t) => {
  const lines: string[] = [];
  const reports = await runReaders({
    folder: workspace(t).folder('readers'),
    seed: `suite ${Date.now()}`,
    readers: 16,
    bytes: 2e9,
    maxDurationMs: 30_000,
    cycles: 2,
    imageMiB: 64,
    tell: (line) => lines.push(line),
  });
  t.log(lines);
  t.is(reports.length, 2);
  t.true(reports.every(({ bytes }) => bytes > 0));
});
