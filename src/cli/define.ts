/** How a command is declared. */
import type { Command } from 'commander';
import type { CommandContext } from './context.ts';

/** Adds a command with the options that all have; the action gets its context and its own arguments. */
export type Define = (usage: string, description: string, build: (command: Command) => Command, action: CommandAction) => void;
export type CommandAction = (context: CommandContext, args: readonly unknown[], options: Readonly<Record<string, unknown>>) => Promise<void>;
