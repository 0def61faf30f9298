/** The command line: `run` parses, runs one command, and returns the exit status. */
import { Command, CommanderError } from 'commander';
import { type ErrorCode, firstError, TimebandError } from '../../bands/errors.ts';
import { VERSION } from '../version.ts';
import { commandsFor } from './commands.ts';
import { addCommonOptions, CommandContext, type CommonOptions } from './context.ts';
import type { Define } from './define.ts';
import { EXIT, EXIT_CODES } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';
import { printable } from './text.ts';

const HELP_TAIL = `
SESSION is an id, "latest", "latest~2", a tag, or a date or time (2026-11-21, 2026-11-21T10:00).
Exit status: 0 done, 1 failed, 2 usage, 3 done but something was skipped or damaged, 10 no repository,
11 locked, 12 wrong key, 13 corrupt, 130 interrupted.`;

/**
 * Runs the command line `argv` (without node and script).
 * @returns the exit status; never throws and never ends the process
 */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  let status: number = EXIT.done;
  let isJson = false;
  let isDebug = false;
  const program = new Command('timeband')
    .description('Encrypted, incremental, mountable backups of disk images and block devices')
    .version(VERSION)
    .addHelpText('after', HELP_TAIL)
    .exitOverride()
    .showHelpAfterError('(see "timeband --help")')
    .configureOutput({ writeOut: (text) => terminal.stdout.write(text), writeErr: (text) => terminal.stderr.write(text) });
  addCommonOptions(program);
  const defineIn =
    (parent: Command): Define =>
    (usage, description, build, action) => {
      const command = addCommonOptions(build(parent.command(usage).description(description)));
      command.action(async (...values: unknown[]) => {
        const options: Readonly<Record<string, unknown>> & CommonOptions = { ...command.optsWithGlobals(), catalog: wantsCatalog(command) };
        isJson = options.json === true;
        isDebug = options.debug === true;
        const context = new CommandContext(terminal, options);
        await action(context, values.slice(0, -2), options);
        status = context.exitCode;
      });
    };
  for (const add of await commandsFor(argv)) add(program, defineIn);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return reportUsage(error, argv, terminal);
    return report(firstError(error), terminal, { isJson, isDebug });
  }
}

/** Unless --no-catalog stands anywhere: commander would let the default of an outer command win. */
function wantsCatalog(command: Command): boolean {
  for (let at: Command | null = command; at !== null; at = at.parent) if (at.opts()['catalog'] === false) return false;
  return true;
}

/** Commander has told it on stderr, or shown the help that was asked for; with --json there is a document, too. */
function reportUsage({ exitCode, message }: CommanderError, argv: readonly string[], terminal: Terminal): number {
  if (exitCode === 0) return EXIT.done;
  if (argv.includes('--json')) printError({ code: 'USAGE', message, path: null }, terminal);
  return EXIT.usage;
}

interface ErrorDocument {
  readonly code: ErrorCode | 'INTERNAL';
  readonly message: string;
  readonly path: string | null;
}

function printError(error: ErrorDocument, terminal: Terminal): void {
  terminal.stdout.write(`${JSON.stringify({ error }, null, 2)}\n`);
}

/** Tells what went wrong and gives the exit status. */
function report(error: unknown, terminal: Terminal, options: { readonly isJson: boolean; readonly isDebug: boolean }): number {
  const known = error instanceof TimebandError ? error : undefined;
  const message =
    known?.message ?? `a fault of this program: ${error instanceof Error ? error.message : String(error)}. Run again with --debug and report it.`;
  terminal.stderr.write(`timeband: ${printable(message)}\n`);
  if (options.isDebug) for (let at: unknown = error; at instanceof Error; at = at.cause) terminal.stderr.write(`${at.stack ?? at.message}\n`);
  if (options.isJson) printError({ code: known?.code ?? 'INTERNAL', message, path: known?.path ?? null }, terminal);
  return known === undefined ? EXIT.failed : EXIT_CODES[known.code];
}
