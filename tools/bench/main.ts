#!/usr/bin/env node
/**
 * `npm run bench`: measures Timeband beside other backup tools on one deterministic disk image, every step from cold
 * caches, and says whether the project's requirements are met. Progress goes to stderr, the report to stdout.
 */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { messageOf } from '../../bands/errors.ts';
import type { BenchContext } from './context.ts';
import { type BaseImage, prepareImage } from './image.ts';
import { Runner } from './measure.ts';
import { type FoundPeers, findPeers } from './peers/find-peers.ts';
import { formatVerdicts, Report } from './report.ts';
import { judge } from './requirements.ts';
import { PEER_NAMES, parseNames, type Settings, STEP_NAMES } from './settings.ts';
import { SourceFolder } from './source.ts';
import { runSteps } from './steps/steps.ts';
import { Workspace } from './workspace.ts';

const MIB = 1_048_576;
const MIN_SIZE_MIB = 256;
/** The image, its changing copy, what is restored, and the repositories, for each MiB of image; the most at any time. */
const NEEDED_SHARE = 3;
const NEEDED_SHARE_PER_TOOL = 0.7;
const NEEDED_BYTES_PER_BAND = 32_768;
const USAGE = 2;
const INTERRUPTED = 130;

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

function parseCount(minimum: number): (text: string) => number {
  return (text) => {
    if (/^\d{1,9}$/.test(text) && Number(text) >= minimum) return Number(text);
    throw new InvalidArgumentError(`Give a number of at least ${minimum}.`);
  };
}

function parseList<Name extends string>(known: readonly Name[]): (text: string) => Name[] {
  return (text) => {
    const names = parseNames(text, known);
    if (names !== undefined) return names;
    throw new InvalidArgumentError(`There are: ${known.join(', ')}.`);
  };
}

function parseSettings(argv: readonly string[]): Settings {
  const options = new Command('bench')
    .description('Measures Timeband beside other backup tools')
    .option('--size <MiB>', 'size of the image', parseCount(MIN_SIZE_MIB), 4096)
    .option('--peers <list>', 'tools to measure beside it; those that are not installed are left out', parseList(PEER_NAMES), [...PEER_NAMES])
    .option('--steps <list>', 'run only these steps', parseList(STEP_NAMES), [...STEP_NAMES])
    .option('--bands <N>', 'bands of the hardlink step; 0 leaves it out', parseCount(0), 50_000)
    .option('--sessions <N>', 'sessions to be listed; 0 leaves that step out', parseCount(0), 1000)
    .option('--work <dir>', 'work here, and use the image there again')
    .option('--json <file>', 'write the results as JSON, too')
    .option('--keep', 'leave repositories and images behind')
    .exitOverride()
    .parse([...argv], { from: 'user' })
    .opts<{
      size: number;
      peers: Settings['peers'];
      steps: Settings['steps'];
      bands: number;
      sessions: number;
      work?: string;
      json?: string;
      keep?: true;
    }>();
  return {
    sizeMiB: options.size,
    peers: options.peers,
    steps: options.steps,
    hardlinkBands: options.bands,
    sessions: options.sessions,
    workDirectory: options.work,
    jsonFile: options.json,
    isKept: options.keep === true,
  };
}

function describeMachine(): string {
  const kernel = readFileSync('/proc/sys/kernel/osrelease', 'latin1').trim();
  return `${cpus().length} x ${cpus()[0]?.model ?? 'CPU'}, ${Math.round(totalmem() / 1024 ** 3)} GiB RAM, Linux ${kernel}, Node ${process.versions.node}`;
}

function describeRun(base: BaseImage, found: FoundPeers, runner: Runner): string {
  const lines = [
    `Image: ${base.sizeBytes / MIB} MiB ext4, ${Math.round(base.allocatedBytes / MIB)} MiB allocated, ${base.files} files, SHA-256 ${base.sha256.slice(0, 16)}`,
    `Tools: ${found.versions.join(', ')}`,
    `Machine: ${describeMachine()}`,
  ];
  if (found.missing.length > 0) lines.push(`Left out, because not installed: ${found.missing.join(', ')}`);
  if (!runner.isCold) lines.push('Caches are WARM: only root can drop them.');
  return lines.join('\n');
}

async function bench(settings: Settings, signal: AbortSignal): Promise<boolean> {
  await using workspace = await Workspace.create(settings);
  const bandsBytes = settings.steps.includes('hardlinks') ? settings.hardlinkBands * NEEDED_BYTES_PER_BAND : 0;
  await workspace.checkFreeSpace(settings.sizeMiB * MIB * (NEEDED_SHARE + NEEDED_SHARE_PER_TOOL * (settings.peers.length + 2)) + bandsBytes);
  const runner = new Runner(workspace, signal);
  const found = await findPeers(workspace, runner, settings.peers);
  tell(`bench: working in ${workspace.root}; preparing the image`);
  const base = await prepareImage(workspace, runner, settings.sizeMiB);
  const source = await SourceFolder.create(workspace.path('source'), runner, base);
  const report = new Report(tell);
  const context: BenchContext = { settings, workspace, runner, report, found, base, source, signal };
  await runSteps(context);
  const verdicts = judge(report.rows);
  const heading = describeRun(base, found, runner);
  process.stdout.write(`${heading.replaceAll('\n', '  \n')}\n\n${report.table()}\n\n${formatVerdicts(verdicts)}\n`);
  const document = {
    machine: describeMachine(),
    image: base,
    versions: found.versions,
    missing: found.missing,
    isCold: runner.isCold,
    rows: report.rows,
    verdicts,
  };
  if (settings.jsonFile !== undefined) await writeFile(settings.jsonFile, `${JSON.stringify(document, null, 2)}\n`);
  for (const failure of report.failures) tell(`bench: failed: ${failure}`);
  return report.failures.length === 0;
}

const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => abort.abort(new Error('interrupted')));
try {
  process.exitCode = (await bench(parseSettings(process.argv.slice(2)), abort.signal)) ? 0 : 1;
} catch (error) {
  process.exitCode = abort.signal.aborted ? INTERRUPTED : error instanceof CommanderError ? error.exitCode && USAGE : 1;
  if (!(error instanceof CommanderError)) tell(`bench: ${messageOf(error)}`);
}
