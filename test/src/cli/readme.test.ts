/** The README's table of commands, and what the program says of itself. */
import { readFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import test from 'ava';
import { run } from '../../../src/cli/run.ts';

const readme = readFileSync(new URL('../../../../README.md', import.meta.url), 'utf8');

async function help(...command: string[]): Promise<string> {
  const parts: string[] = [];
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      parts.push(String(chunk));
      done();
    },
  });
  await run([...command, '--help'], {
    env: {},
    stdout,
    stderr: stdout,
    stdoutColumns: undefined,
    isInteractive: false,
    signal: new AbortController().signal,
    askSecret: () => Promise.resolve(undefined),
    askLine: () => Promise.resolve(undefined),
  });
  return parts.join('');
}

/** The names of the commands below `Commands:`. */
function commandsIn(text: string): string[] {
  const names = [...(text.split('\nCommands:\n')[1] ?? '').matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(([, name = '']) => name);
  return names.filter((name) => name !== 'help');
}

const optionsIn = (text: string): string[] => [...text.matchAll(/--[a-z][a-z-]*/g)].map(([option]) => option);
/** Those that a help lists, not those that it speaks of. */
const listedIn = (text: string): string[] => [...text.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, option = '']) => option);

async function allCommands(): Promise<Map<string, readonly string[]>> {
  const all = new Map<string, readonly string[]>();
  for (const name of commandsIn(await help())) {
    const text = await help(name);
    const nested = commandsIn(text);
    if (nested.length === 0) all.set(name, listedIn(text));
    for (const one of nested) all.set(`${name} ${one}`, listedIn(await help(name, one)));
  }
  return all;
}

test('every command and option stands in the README, and its table names no others', async (t) => {
  const commands = await allCommands();
  t.true(commands.size > 30);
  const common = new Set(listedIn(await help()));
  const table = readme.split('\n## Commands\n')[1]?.split('\n\nEvery command takes')[0] ?? '';
  const described = new Set<string>();
  for (const row of table.split('\n').filter((line) => line.startsWith('| `'))) {
    const names = [...(row.split(/(?<!\\)\|/)[1] ?? '').matchAll(/`([^`]+)`/g)].flatMap(([, usage = '']) => {
      const [first = '', second = ''] = usage.split(' ');
      return [`${first} ${second}`, first].filter((name) => commands.has(name)).slice(0, 1);
    });
    t.not(names.length, 0, row);
    for (const name of names) described.add(name);
    const known = new Set([...common, ...names.flatMap((name) => commands.get(name) ?? [])]);
    const unknown = optionsIn(row.replaceAll('`--keep-…`', '')).filter((option) => !known.has(option));
    t.deepEqual(unknown, [], row);
  }
  for (const [name, options] of commands) {
    t.true(described.has(name) || readme.includes(`\`${name}\``), `${name} is not described`);
    for (const option of options) t.true(option === '--help' || readme.includes(option), `${name} ${option} is not described`);
  }
});
