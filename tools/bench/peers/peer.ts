/** A backup tool that is measured: the commands it is run by. Nothing here runs anything. */
import { stat } from 'node:fs/promises';
import type { Command } from '../measure.ts';
import type { SourceFolder } from '../source.ts';

/** Which of the backups so far. */
export type Which = 'oldest' | 'newest';

export interface Peer {
  /** The tool and how it is set, as the table names it. */
  readonly name: string;
  /** The folder whose size is what the backups take. */
  readonly repository: string;
  version(): Command;
  init(): Command;
  /** Backs the source up; each label is used once. */
  backup(source: SourceFolder, label: string): Command;
  /** Restores the newest backup to a new file; the commands run in an empty folder. */
  restore(directory: string): { readonly command: Command; readonly file: string };
  /** Reads and verifies all data. */
  check(): Command;
  /** Deletes the oldest of three backups, and frees what only it needed. */
  deleteOldest(): readonly Command[];
  /** Mounts all backups; the command may stay in the foreground. */
  mount(directory: string): Command;
  unmount(directory: string): Command;
  /** The image of a backup within the mount; undefined while it is not there. */
  mountedImage(directory: string, which: Which): Promise<string | undefined>;
}

/** `file`, if it is there and has bytes. */
export async function existing(file: string): Promise<string | undefined> {
  const found = await stat(file).catch(() => undefined);
  return found !== undefined && found.size > 0 ? file : undefined;
}
