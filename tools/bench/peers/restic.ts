/** restic with its defaults. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from '../measure.ts';
import { unmountCommand } from '../mounts.ts';
import { IMAGE_NAME, type SourceFolder } from '../source.ts';
import { existing, type Peer, type Which } from './peer.ts';

export class ResticPeer implements Peer {
  readonly name = 'restic';
  readonly repository: string;
  readonly #cacheDirectory: string;

  constructor(directory: string) {
    this.repository = path.join(directory, 'repository');
    this.#cacheDirectory = path.join(directory, 'cache');
  }

  #command(args: readonly string[], cwd?: string): Command {
    const env = { RESTIC_REPOSITORY: this.repository, RESTIC_PASSWORD: 'benchmark', RESTIC_CACHE_DIR: this.#cacheDirectory };
    return { argv: ['restic', '--quiet', ...args], env, ...(cwd === undefined ? {} : { cwd }) };
  }

  version(): Command {
    return this.#command(['version']);
  }

  init(): Command {
    return this.#command(['init']);
  }

  backup(source: SourceFolder, label: string): Command {
    return this.#command(['backup', '--tag', label, '.'], source.directory);
  }

  restore(directory: string): { readonly command: Command; readonly file: string } {
    const command = this.#command(['restore', 'latest', '--target', directory, '--include', `/${IMAGE_NAME}`]);
    return { command, file: path.join(directory, IMAGE_NAME) };
  }

  check(): Command {
    return this.#command(['check', '--read-data']);
  }

  deleteOldest(): readonly Command[] {
    return [this.#command(['forget', '--keep-last', '2', '--prune'])];
  }

  mount(directory: string): Command {
    return this.#command(['mount', directory]);
  }

  unmount(directory: string): Command {
    return { argv: unmountCommand(directory) };
  }

  async mountedImage(directory: string, which: Which): Promise<string | undefined> {
    const folder = path.join(directory, 'snapshots');
    const snapshots = (await readdir(folder).catch(() => [])).filter((name) => name !== 'latest').sort();
    const snapshot = which === 'oldest' ? snapshots[0] : snapshots.at(-1);
    return snapshot === undefined ? undefined : await existing(path.join(folder, snapshot, IMAGE_NAME));
  }
}
