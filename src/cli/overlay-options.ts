/** The options of commands that let a session be written over. */
import path from 'node:path';
import type { Command } from 'commander';
import type { OverlayChoice } from '../overlay.ts';
import type { CommandContext } from './context.ts';

export const WRITABLE_OPTION: readonly [string, string] = [
  '--writable',
  'let it be written to: what is written is thrown away in the end, and the sessions stay as they are',
];

export function addOverlayOptions(command: Command): Command {
  return command.option(...WRITABLE_OPTION).option('--overlay <file>', 'the same, but keep what is written in FILE, and go on from it the next time');
}

/** Where what is written goes; undefined if nothing may be written. */
export function overlayChoice(context: CommandContext, options: Readonly<Record<string, unknown>>): OverlayChoice | undefined {
  if (typeof options['overlay'] === 'string') return { file: path.resolve(options['overlay']) };
  const folder = scratchFolder(context, options);
  return folder === undefined ? undefined : { scratchFolder: folder };
}

/** Where overlays are made that are thrown away; undefined if nothing may be written. */
export function scratchFolder(context: CommandContext, options: Readonly<Record<string, unknown>>): string | undefined {
  return options['writable'] === true ? path.join(context.stateDirectory, 'overlays') : undefined;
}
