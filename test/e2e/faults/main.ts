/**
 * The long run: every command under every fault at every operation: node main.js [--command TEXT] [--fault TEXT] [--step N] [--seed N]
 * [--reading-step N]: the step of faults that strike when something is read, too, of which there are many.
 * Prints a line for each series, and ends with 1 if anything is wrong.
 */
import { parseArgs } from 'node:util';
import { FAULT_NAMES, FAULTS } from '../../support/faulty-fs/fault-plan.ts';
import { FAULT_COMMANDS } from './commands.ts';
import { FaultLab } from './lab.ts';
import { describeTally, NEVER } from './series.ts';

/** The one of that name, else those whose names contain it. */
function named<T>(all: readonly T[], nameOf: (one: T) => string, text: string): readonly T[] {
  const exact = all.filter((one) => nameOf(one) === text);
  return exact.length > 0 ? exact : all.filter((one) => nameOf(one).includes(text));
}

/** The first of those that differ in names and numbers only. */
function oneOfEach(complaints: readonly string[]): Iterable<string> {
  const kinds = new Map<string, string>();
  for (const complaint of complaints) {
    const kind =
      complaint
        .replace(/^.*?\): /, '')
        .replaceAll(/[0-9a-f]{6,}|\d+/g, '#')
        .split('\n')[0] ?? '';
    if (!kinds.has(kind)) kinds.set(kind, complaint);
  }
  return kinds.values();
}

const { values } = parseArgs({
  options: {
    command: { type: 'string', default: '' },
    fault: { type: 'string', default: '' },
    step: { type: 'string', default: '1' },
    'reading-step': { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
  },
});
await using lab = await FaultLab.up();
for (const command of named(FAULT_COMMANDS, ({ name }) => name, values.command)) {
  const count = await lab.run.count(command);
  for (const fault of named(FAULT_NAMES, (name) => name, values.fault)) {
    const start = performance.now();
    const step = Number(FAULTS[fault].among.includes('open') ? values['reading-step'] : values.step);
    const operations = Array.from({ length: Math.ceil(count(fault) / step) }, (_, i) => 1 + i * step);
    const tally = await lab.run.series(command, fault, { operations: [...operations, NEVER], seed: Number(values.seed) });
    process.stdout.write(`${describeTally(tally)}, ${((performance.now() - start) / 1000).toFixed(1)} s\n`);
    for (const complaint of oneOfEach(tally.complaints)) process.stdout.write(`    ${complaint}\n`);
    if (tally.complaints.length > 0) process.exitCode = 1;
  }
}
