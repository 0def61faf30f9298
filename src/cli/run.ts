/** The command line: `run` parses, runs one command, and returns the exit status. */
import { Command, CommanderError } from 'commander';
import { TimebandError } from '../../bands/errors.ts';
import { VERSION } from '../version.ts';
import { addBreakLock } from './commands/break-lock.ts';
import { addCheck } from './commands/check.ts';
import { addDiff } from './commands/diff.ts';
import { addInit } from './commands/init.ts';
import { addMap } from './commands/map.ts';
import { addMount } from './commands/mount.ts';
import { addOpen } from './commands/open.ts';
import { addRestore } from './commands/restore.ts';
import { addSessions } from './commands/sessions.ts';
import { addSync } from './commands/sync.ts';
import { addVolumes } from './commands/volumes.ts';
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
  const define: Define = (usage, description, build, action) => {
    const command = addCommonOptions(build(program.command(usage).description(description)));
    command.action(async (...values: unknown[]) => {
      const options: Readonly<Record<string, unknown>> & CommonOptions = command.optsWithGlobals();
      isJson = options.json === true;
      isDebug = options.debug === true;
      const context = new CommandContext(terminal, options);
      await action(context, values.slice(0, -2), options);
      status = context.exitCode;
    });
  };
  for (const add of [addInit, addSync, addVolumes, addSessions, addRestore, addCheck, addDiff, addMap, addMount, addOpen, addBreakLock]) add(define);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    return report(error, terminal, { isJson, isDebug });
  }
}

/** Tells what went wrong and gives the exit status. */
function report(error: unknown, terminal: Terminal, options: { readonly isJson: boolean; readonly isDebug: boolean }): number {
  const known = error instanceof TimebandError ? error : undefined;
  const message =
    known?.message ?? `a fault of this program: ${error instanceof Error ? error.message : String(error)}. Run again with --debug and report it.`;
  terminal.stderr.write(`timeband: ${printable(message)}\n`);
  if (options.isDebug) for (let at: unknown = error; at instanceof Error; at = at.cause) terminal.stderr.write(`${at.stack ?? at.message}\n`);
  if (options.isJson) {
    const document = { error: { code: known?.code ?? 'INTERNAL', message, path: known?.path ?? null } };
    terminal.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
  }
  return known === undefined ? EXIT.failed : EXIT_CODES[known.code];
}
