/** Timeband itself, through its command line, as a user runs it. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from '../measure.ts';
import type { SourceFolder } from '../source.ts';
import { existing, type Peer, type Which } from './peer.ts';

const CLI = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const VOLUME = 'disk';

export class TimebandPeer implements Peer {
  readonly name = 'timeband';
  readonly repository: string;
  readonly stateDirectory: string;
  readonly #labels: string[] = [];

  constructor(directory: string) {
    this.repository = path.join(directory, 'repository');
    this.stateDirectory = path.join(directory, 'state');
  }

  /** Any command of Timeband on this repository. */
  command(...args: readonly string[]): Command {
    const env = { TIMEBAND_REPO: this.repository, TIMEBAND_PASSPHRASE: 'benchmark', TIMEBAND_STATE_DIR: this.stateDirectory };
    return { argv: [process.execPath, CLI, ...args], env };
  }

  version(): Command {
    return this.command('--version');
  }

  init(): Command {
    return this.command('init', '--quiet');
  }

  backup(source: SourceFolder, label: string): Command {
    this.#labels.push(label);
    return this.command('sync', `${VOLUME}=${source.image}`, '--tag', label, '--quiet');
  }

  restore(directory: string): { readonly command: Command; readonly file: string } {
    const file = path.join(directory, 'restored.img');
    return { command: this.command('restore', VOLUME, file, '--quiet'), file };
  }

  check(): Command {
    return this.command('check', '--data', '--quiet');
  }

  deleteOldest(): readonly Command[] {
    return [this.command('delete', `${VOLUME}@${this.#labels[0]}`, '--yes', '--quiet')];
  }

  mount(directory: string): Command {
    return this.command('mount', directory, '--quiet');
  }

  unmount(directory: string): Command {
    return this.command('unmount', directory, '--quiet');
  }

  serveNbd(socket: string): Command {
    return this.command('serve-nbd', VOLUME, '--socket', socket, '--quiet');
  }

  stopNbd(socket: string): Command {
    return this.command('stop-nbd', socket, '--quiet');
  }

  async mountedImage(directory: string, which: Which): Promise<string | undefined> {
    const names = await readdir(path.join(directory, VOLUME)).catch(() => []);
    const sessions = names.filter((name) => name !== 'latest').sort();
    const session = which === 'oldest' ? sessions[0] : sessions.at(-1);
    return session === undefined ? undefined : await existing(path.join(directory, VOLUME, session, 'image'));
  }
}
