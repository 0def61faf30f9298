/**
 * `npm run fuzz -- --inputs 10000000`: puts damaged inputs through every decoder and stops at the first that breaks a rule
 * (tools/fuzz/target.ts), with what is needed to see it again. Each target runs in a process of its own with a small
 * heap, which is ended when an input hangs.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import { runCampaign } from './campaign.ts';
import { ALL_TARGETS } from './targets/all.ts';

const SILENT_MS = 60_000;
const HEAP_MIB = 128;

interface Options {
  readonly inputs: number;
  readonly seed: number;
  readonly target?: string;
  readonly first: number;
}

type Report = { readonly done: number } | { readonly failure: string } | { readonly result: ReturnType<typeof runCampaign> };

function count(text: string): number {
  if (!/^\d{1,12}$/.test(text)) throw new InvalidArgumentError('a whole number is needed.');
  return Number(text);
}

const program: Command = new Command('fuzz')
  .description('put damaged inputs through every decoder')
  .option('--inputs <N>', 'inputs in all, over all targets', count, 1_000_000)
  .option('--seed <N>', 'another seed gives other inputs', count, 1)
  .option('--first <N>', 'number of the first input of each target', count, 0)
  .option('--target <NAME>', 'only this target, in this process')
  .showHelpAfterError();
program.parse();
const options = program.opts<Options>();

if (options.target === undefined) await runAll(options);
else runOne(options.target, options);

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function runOne(name: string, { inputs, seed, first }: Options): void {
  const target = ALL_TARGETS.find((one) => one.name === name);
  if (target === undefined) program.error(`there is no target "${name}"; there are: ${ALL_TARGETS.map((one) => one.name).join('; ')}`);
  const tell = (report: Report): void => {
    if (process.send !== undefined) process.send(report);
    else if (!('done' in report)) print('failure' in report ? report.failure : JSON.stringify(report.result));
  };
  try {
    tell({ result: runCampaign(target, { seed, first, inputs, onProgress: (done) => tell({ done }) }) });
  } catch (error) {
    tell({ failure: error instanceof Error ? error.message : String(error) });
    process.exitCode = 1;
  }
}

async function runAll({ inputs, seed, first }: Options): Promise<void> {
  const each = Math.ceil(inputs / ALL_TARGETS.length);
  const waiting = ALL_TARGETS.map(({ name }) => name);
  let total = 0;
  print(`seed ${seed}, ${each} inputs for each of ${waiting.length} targets`);
  const work = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const { accepted, refused, slowestMs } = await runChild(name, ['--inputs', `${each}`, '--seed', `${seed}`, '--first', `${first}`]);
      total += accepted + refused;
      print(`${name}: ${accepted} accepted, ${refused} refused, slowest ${slowestMs.toFixed(1)} ms`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  print(`${total} inputs, no rule broken`);
}

function runChild(name: string, args: readonly string[]): Promise<ReturnType<typeof runCampaign>> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = fork(import.meta.filename, ['--target', name, ...args], { execArgv: [`--max-old-space-size=${HEAP_MIB}`] });
    const hung = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${name}: nothing was heard for ${SILENT_MS / 1000} s; an input hangs`));
    }, SILENT_MS);
    child.on('message', (report: Report) => {
      hung.refresh();
      if ('failure' in report) reject(new Error(report.failure));
      else if ('result' in report) resolve(report.result);
    });
    child.on('close', (status, signal) => {
      clearTimeout(hung);
      reject(new Error(`${name}: its process ended with ${signal ?? status}`));
    });
  });
}
