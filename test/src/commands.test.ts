/** The table of commands: each is found under its own name, and all of them together make up the program. */
import test from 'ava';
import { Command } from 'commander';
import { commandsFor } from '../../src/cli/commands.ts';
import type { Define } from '../../src/cli/define.ts';

const defineIn =
  (parent: Command): Define =>
  (usage, description, build) =>
    void build(parent.command(usage).description(description));

async function namesFor(...argv: string[]): Promise<string[]> {
  const program = new Command();
  for (const add of await commandsFor(argv)) add(program, defineIn);
  return program.commands.map((command) => command.name());
}

test('every command is there, and is loaded by its name with few others', async (t) => {
  const all = await namesFor();
  t.is(new Set(all).size, all.length);
  t.true(all.length > 30);
  for (const name of all) {
    const loaded = await namesFor(name, '--json');
    t.true(loaded.includes(name), name);
    t.true(loaded.length <= 6, `${name} loads ${loaded.join(', ')}`);
  }
});

test('what does not begin with a command loads all: help, a wrong name, options', async (t) => {
  const all = await namesFor();
  for (const argv of [[], ['--help'], ['help', 'sync'], ['synk'], ['--repo', '/r', 'sync']])
    t.deepEqual(await namesFor(...argv), all, argv.join(' '));
});
