/** A mounted file system whose operations fail as a test says, and that forgets what was not fsynced. */
import { type ChildProcess, fork } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ArmedFault, Injected } from './fault-plan.ts';
import { type ServerAnswer, type ServerRequest, SYNC_FILE } from './server.ts';

const SERVER = fileURLToPath(new URL('./server.js', import.meta.url));

export class FaultyFs {
  readonly mountPoint: string;
  readonly #server: ChildProcess;

  private constructor(mountPoint: string, server: ChildProcess) {
    this.mountPoint = mountPoint;
    this.#server = server;
  }

  /** Mounts an empty one at a new folder. Whoever calls unmounts it when the process has been stopped. */
  static async up(mountPoint: string): Promise<FaultyFs> {
    mkdirSync(mountPoint);
    const server = fork(SERVER, [mountPoint], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const fs = new FaultyFs(mountPoint, server);
    await fs.#answer();
    return fs;
  }

  /** Ends the process; what is asked of the mount after that is an error. */
  stop(): void {
    this.#server.kill('SIGKILL');
  }

  #answer(): Promise<ServerAnswer> {
    return new Promise((resolve, reject) => {
      const onExit = (): void => reject(new Error('the server of the faulty file system has ended'));
      this.#server.once('exit', onExit);
      this.#server.once('message', (answer: ServerAnswer) => {
        this.#server.off('exit', onExit);
        resolve(answer);
      });
    });
  }

  async #ask(request: ServerRequest): Promise<ServerAnswer> {
    const answer = this.#answer();
    this.#server.send(request);
    return await answer;
  }

  async arm(fault: ArmedFault): Promise<void> {
    await this.#ask({ do: 'arm', fault });
  }

  /** The command has ended: the power is cut, if that is planned, and nothing fails any more. */
  async disarm(): Promise<Injected> {
    const answer = await this.#ask({ do: 'disarm' });
    return 'injected' in answer ? answer.injected : { count: 0, first: undefined, seen: {} };
  }

  /** Makes all files durable, and remembers them under a name. */
  async save(name: string): Promise<void> {
    await this.#ask({ do: 'save', name });
  }

  /** Puts all files back as they were when they were saved under that name. */
  async reset(name: string): Promise<void> {
    await this.#ask({ do: 'reset', name });
  }

  /** Writes all files to a new folder of a file system that does not fail, links kept. */
  async exportTo(folder: string): Promise<void> {
    await this.#ask({ do: 'export', folder });
  }
}

/**
 * The kernel does not tell a FUSE file system of syncfs, so in this PATH `sync -f` does: it opens a file that stands for it.
 * @returns the folder to put before all others of PATH
 */
export function makeSyncProgram(folder: string, mountPoint: string): string {
  mkdirSync(folder);
  const file = path.join(folder, 'sync');
  writeFileSync(file, `#!/bin/sh\ncase "$3" in "${mountPoint}"/*) : < "$3/${SYNC_FILE}" ;; *) exec /bin/sync "$@" ;; esac\n`);
  chmodSync(file, 0o755);
  return folder;
}
