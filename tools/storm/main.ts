#!/usr/bin/env node
/** `npm run storm -- kills|crowd|readers`: hits a repository hard for as long as wanted. The test suite does the same for a short time. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { messageOf } from '../../bands/errors.ts';
import { runCrowd } from './crowd.ts';
import { runKills } from './kills.ts';
import { runReaders } from './readers.ts';

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

const folder = (): string => mkdtempSync(path.join(tmpdir(), 'timeband-storm-'));
const program = new Command('storm').description('Hits a repository hard, and sees that nothing is lost');
program
  .command('kills')
  .description('kill -9 at random moments of every command that writes')
  .option('--kills <N>', 'processes to kill', '200')
  .option('--seconds <N>', 'end it after that time')
  .option('--seed <text>', 'chooses commands and data', String(Date.now()))
  .option('--quiet', 'only the result')
  .action(async ({ kills, seconds, seed, quiet }: { kills: string; seconds?: string; seed: string; quiet?: true }) => {
    tell(`seed ${seed}`);
    const maxDurationMs = seconds === undefined ? undefined : Number(seconds) * 1000;
    const report = await runKills({ folder: folder(), seed, kills: Number(kills), maxDurationMs, tell: quiet === true ? () => undefined : tell });
    for (const [name, { none, part, all, ended }] of Object.entries(report))
      tell(`${name.padEnd(22)} killed ${none + part + all}: ${none} had done nothing, ${part} a part, ${all} all; ${ended} ended before`);
  });
program
  .command('crowd')
  .description('many processes of two machines on one repository')
  .option('--processes <N>', 'at a time', '8')
  .option('--seconds <N>', 'how long', '120')
  .option('--seed <text>', 'chooses commands and data', String(Date.now()))
  .option('--quiet', 'only the result')
  .action(async ({ processes, seconds, seed, quiet }: { processes: string; seconds: string; seed: string; quiet?: true }) => {
    tell(`seed ${seed}`);
    const options = { folder: folder(), seed, processes: Number(processes), durationMs: Number(seconds) * 1000 };
    const report = await runCrowd({ ...options, tell: quiet === true ? () => undefined : tell });
    for (const [name, outcomes] of Object.entries(report))
      tell(
        `${name.padEnd(10)} ${Object.entries(outcomes)
          .map(([outcome, count]) => `${count} ${outcome}`)
          .join(', ')}`,
      );
  });
program
  .command('readers')
  .description('many processes read a mount: right bytes, and nothing of the server grows')
  .option('--readers <N>', 'at a time', '32')
  .option('--gigabytes <N>', 'how much is read', '100')
  .option('--seconds <N>', 'end it after that time', '3600')
  .option('--cycles <N>', 'mounts, one after the other', '10')
  .option('--seed <text>', 'chooses data and what is read', String(Date.now()))
  .action(async (options: { readers: string; gigabytes: string; seconds: string; cycles: string; seed: string }) => {
    const { readers, gigabytes, seconds, cycles, seed } = options;
    tell(`seed ${seed}`);
    const limits = { bytes: Number(gigabytes) * 1e9, maxDurationMs: Number(seconds) * 1000, cycles: Number(cycles) };
    const reports = await runReaders({ folder: folder(), seed, readers: Number(readers), ...limits, imageMiB: 256, tell });
    tell(`${(reports.reduce((sum, { bytes }) => sum + bytes, 0) / 1e9).toFixed(1)} GB read`);
  });
try {
  await program.parseAsync();
} catch (error) {
  tell(`FAILED: ${messageOf(error)}`);
  process.exitCode = 1;
}
