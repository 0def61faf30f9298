/**
 * The folders of a run. What takes long to make (the image) lies in the root and may be used again; all else lies in a
 * folder of the run and is removed at the end, after its mounts and processes.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { TimebandError } from '../../bands/errors.ts';
import { unmountBelow } from './mounts.ts';
import { endMarked, MARK_NAME } from './processes.ts';
import type { Settings } from './settings.ts';

/** Settings of backup tools in the user's environment would lead a run to other repositories. */
const FOREIGN_SETTINGS = /^(BORG|RESTIC|TIMEBAND)_/;

export class Workspace implements AsyncDisposable {
  /** Holds the image. */
  readonly root: string;
  /** Holds everything else. */
  readonly run: string;
  /** What every process of this run carries in its environment. */
  readonly mark: string;
  readonly #isRootTemporary: boolean;
  readonly #isKept: boolean;

  private constructor(root: string, options: { readonly isRootTemporary: boolean; readonly isKept: boolean }) {
    this.root = root;
    this.mark = randomBytes(6).toString('hex');
    this.run = path.join(root, `run-${this.mark}`);
    this.#isRootTemporary = options.isRootTemporary;
    this.#isKept = options.isKept;
  }

  static async create({ workDirectory, isKept }: Settings): Promise<Workspace> {
    if (workDirectory !== undefined) await mkdir(workDirectory, { recursive: true, mode: 0o700 });
    const root = await realpath(workDirectory ?? (await mkdtemp(path.join(tmpdir(), 'timeband-bench-'))));
    const workspace = new Workspace(root, { isRootTemporary: workDirectory === undefined, isKept });
    await mkdir(workspace.run, { mode: 0o700 });
    return workspace;
  }

  /** The environment of every process of the run. */
  get environment(): Record<string, string> {
    const kept = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined && !FOREIGN_SETTINGS.test(entry[0]));
    return { ...Object.fromEntries(kept), LC_ALL: 'C.UTF-8', [MARK_NAME]: this.mark };
  }

  path(...names: readonly string[]): string {
    return path.join(this.run, ...names);
  }

  /** An empty folder of that name. */
  async fresh(name: string): Promise<string> {
    const directory = this.path(name);
    await this.remove(directory);
    await mkdir(directory, { recursive: true });
    return directory;
  }

  async remove(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true });
  }

  /** @throws TimebandError NO_SPACE */
  async checkFreeSpace(neededBytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.run);
    if (bavail * bsize >= neededBytes) return;
    const gib = (bytes: number): string => (bytes / 1024 ** 3).toFixed(1);
    throw new TimebandError(
      `${this.root} has ${gib(bavail * bsize)} GiB free, the run needs about ${gib(neededBytes)} GiB. Name another folder with --work, or a smaller --size.`,
      { code: 'NO_SPACE', path: this.root },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const stuck = await unmountBelow(this.run);
    await endMarked(this.mark);
    if (stuck.length > 0 && (await unmountBelow(this.run)).length > 0) {
      process.stderr.write(`bench: still mounted, so not removed: ${stuck.join(', ')}\n`);
      return;
    }
    if (this.#isKept) {
      process.stderr.write(`bench: kept ${this.run}\n`);
      return;
    }
    await this.remove(this.run);
    if (this.#isRootTemporary) await this.remove(this.root);
  }
}
