/**
 * Where files are made that take the place of damaged ones: a folder in the volume's incoming/, which whoever holds the
 * volume's lock may clear. A file gets to its place by rename, so that a reader or a crash sees the old one or the new one;
 * a file that sessions share is never written to.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ioError } from '../../bands/errors.ts';
import { createDirectory, requireRealDirectory, syncDirectory, syncFile, tryToRemove } from '../../bands/store/files.ts';
import { linkOrCopy } from '../../bands/store/link-file.ts';
import type { Volume } from '../volume.ts';

export class Workshop implements AsyncDisposable {
  readonly #directory: string;
  readonly #isDryRun: boolean;

  private constructor(directory: string, isDryRun: boolean) {
    this.#directory = directory;
    this.#isDryRun = isDryRun;
  }

  /** The caller holds the volume's lock. For a dry run files are made outside of the repository, sealed as they are, and put nowhere. */
  static async open({ layout }: Volume, isDryRun: boolean): Promise<Workshop> {
    if (isDryRun) return new Workshop(await mkdtemp(path.join(tmpdir(), 'timeband-repair-')), true);
    await requireRealDirectory(layout.incoming);
    await createDirectory(layout.incoming, { allowExisting: true });
    const directory = path.join(layout.incoming, `repair-${randomBytes(8).toString('hex')}`);
    await createDirectory(directory);
    return new Workshop(directory, false);
  }

  /** A path at which there is no file yet. */
  newPath(): string {
    return path.join(this.#directory, randomBytes(8).toString('hex'));
  }

  /** Puts `file` into the place of whatever is at `target`, durably: as a link, or as a copy where it can have no more links. */
  async install(file: string, target: string): Promise<void> {
    if (this.#isDryRun) return;
    const temporary = this.newPath();
    const folder = path.dirname(target);
    await requireRealDirectory(folder);
    await createDirectory(folder, { allowExisting: true }); // the folder may be what was lost
    linkOrCopy(file, temporary);
    await syncFile(temporary);
    try {
      await rename(temporary, target);
    } catch (error) {
      throw ioError(error, 'put the mended file to', target);
    }
    await syncDirectory(folder);
    await syncDirectory(path.dirname(folder));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await tryToRemove(this.#directory);
  }
}
