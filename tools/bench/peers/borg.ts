/** BorgBackup: set as its documents recommend for images, at Timeband's band size, and with its own defaults. */
import path from 'node:path';
import type { Command } from '../measure.ts';
import { unmountCommand } from '../mounts.ts';
import { IMAGE_NAME, type SourceFolder } from '../source.ts';
import { existing, type Peer, type Which } from './peer.ts';

/** Chunks of a fixed size, 2 MiB; holes are not read. */
export const BORG_FIXED: BorgVariant = { name: 'borg-fixed', create: ['--sparse', '--chunker-params', 'fixed,2097152'] };
export const BORG_DEFAULT: BorgVariant = { name: 'borg-default', create: [] };

export interface BorgVariant {
  readonly name: string;
  readonly create: readonly string[];
}

export class BorgPeer implements Peer {
  readonly name: string;
  readonly repository: string;
  readonly #create: readonly string[];
  readonly #baseDirectory: string;
  readonly #labels: string[] = [];

  constructor(directory: string, variant: BorgVariant) {
    this.name = variant.name;
    this.#create = variant.create;
    this.repository = path.join(directory, 'repository');
    this.#baseDirectory = path.join(directory, 'base');
  }

  #command(args: readonly string[], cwd?: string): Command {
    const env = {
      BORG_REPO: this.repository,
      BORG_BASE_DIR: this.#baseDirectory,
      BORG_PASSPHRASE: 'benchmark',
      BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
    };
    return { argv: ['borg', ...args], env, ...(cwd === undefined ? {} : { cwd }) };
  }

  version(): Command {
    return this.#command(['--version']);
  }

  init(): Command {
    return this.#command(['init', '--encryption', 'repokey-blake2']);
  }

  backup(source: SourceFolder, label: string): Command {
    this.#labels.push(label);
    return this.#command(['create', '--compression', 'zstd,1', ...this.#create, `::${label}`, '.'], source.directory);
  }

  restore(directory: string): { readonly command: Command; readonly file: string } {
    const command = this.#command(['extract', '--sparse', `::${this.#labels.at(-1)}`, IMAGE_NAME], directory);
    return { command, file: path.join(directory, IMAGE_NAME) };
  }

  check(): Command {
    return this.#command(['check', '--verify-data']);
  }

  deleteOldest(): readonly Command[] {
    return [this.#command(['delete', `::${this.#labels[0]}`]), this.#command(['compact'])];
  }

  mount(directory: string): Command {
    return this.#command(['mount', '--foreground', this.repository, directory]);
  }

  unmount(directory: string): Command {
    return { argv: unmountCommand(directory) };
  }

  mountedImage(directory: string, which: Which): Promise<string | undefined> {
    const label = which === 'oldest' ? this.#labels[0] : this.#labels.at(-1);
    return existing(path.join(directory, label ?? '', IMAGE_NAME));
  }
}
