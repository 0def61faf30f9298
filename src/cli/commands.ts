/**
 * The commands, in the order in which help shows them. Each is loaded when it is asked for: what the others need, a cold disk
 * would have to bring for nothing.
 */
import type { Command } from 'commander';
import type { Define } from './define.ts';

type DefineIn = (parent: Command) => Define;
/** Adds commands to the program. */
export type AddCommands = (program: Command, defineIn: DefineIn) => void;

interface CommandModule {
  readonly names: readonly string[];
  load(): Promise<AddCommands>;
}

const plain =
  (...adds: readonly ((define: Define) => void)[]): AddCommands =>
  (program, defineIn) => {
    for (const add of adds) add(defineIn(program));
  };

/** Commands of two words. */
const below =
  (name: string, description: string, add: (define: Define) => void): AddCommands =>
  (program, defineIn) =>
    add(defineIn(program.command(name).description(description)));

const MODULES: readonly CommandModule[] = [
  { names: ['init'], load: async () => plain((await import('./commands/init.ts')).addInit) },
  { names: ['sync'], load: async () => plain((await import('./commands/sync.ts')).addSync) },
  { names: ['volumes'], load: async () => plain((await import('./commands/volumes.ts')).addVolumes) },
  { names: ['sessions', 'show'], load: async () => plain((await import('./commands/sessions.ts')).addSessions) },
  { names: ['restore'], load: async () => plain((await import('./commands/restore.ts')).addRestore) },
  { names: ['check'], load: async () => plain((await import('./commands/check.ts')).addCheck) },
  { names: ['diff'], load: async () => plain((await import('./commands/diff.ts')).addDiff) },
  { names: ['map'], load: async () => plain((await import('./commands/map.ts')).addMap) },
  {
    names: ['sources', 'forget-source'],
    async load() {
      const { addSources, addForgetSource } = await import('./commands/sources.ts');
      return plain(addSources, addForgetSource);
    },
  },
  { names: ['stats'], load: async () => plain((await import('./commands/stats.ts')).addStats) },
  { names: ['delete', 'delete-volume'], load: async () => plain((await import('./commands/delete.ts')).addDelete) },
  { names: ['prune'], load: async () => plain((await import('./commands/prune.ts')).addPrune) },
  { names: ['copy'], load: async () => plain((await import('./commands/copy.ts')).addCopy) },
  {
    names: ['tag', 'untag', 'protect', 'unprotect', 'note', 'rename'],
    load: async () => plain((await import('./commands/labels.ts')).addLabels),
  },
  { names: ['mount', 'unmount'], load: async () => plain((await import('./commands/mount.ts')).addMount) },
  { names: ['open', 'close'], load: async () => plain((await import('./commands/open.ts')).addOpen) },
  { names: ['serve-nbd', 'stop-nbd'], load: async () => plain((await import('./commands/serve-nbd.ts')).addServeNbd) },
  { names: ['with-lock'], load: async () => plain((await import('./commands/with-lock.ts')).addWithLock) },
  { names: ['break-lock'], load: async () => plain((await import('./commands/break-lock.ts')).addBreakLock) },
  {
    names: ['track'],
    load: async () => below('track', 'disk images that keep track of what is written to them', (await import('./commands/track.ts')).addTrack),
  },
  {
    names: ['bundle'],
    load: async () => below('bundle', 'sparse bundles as disks that can be written', (await import('./commands/bundle.ts')).addBundle),
  },
  {
    names: ['key'],
    load: async () =>
      below('key', 'what opens the repository: key slots, recovery phrases, keys of single volumes', (await import('./commands/key.ts')).addKey),
  },
];

/** What `argv` may ask for: if it begins with the name of a command that one, else all (help, a wrong name, options first). */
export async function commandsFor([first]: readonly string[]): Promise<AddCommands[]> {
  const one = MODULES.find(({ names }) => first !== undefined && names.includes(first));
  return await Promise.all((one === undefined ? MODULES : [one]).map((module) => module.load()));
}
