/**
 * Band files of volumes in a key domain. Any session of any of these volumes may have a link to them, so no index tells alone what
 * becomes free, or what was counted before: the links that the file system counts do.
 */
import { statIfPresentSync } from '../../bands/store/files.ts';

/**
 * Takes links of files away, in thought: a file goes with the last one. Deletions that belong together share one of these. Keeps
 * some 50 bytes for each file that has links left.
 */
export class TakenLinks {
  readonly #taken = new Map<bigint, bigint>();

  /** @returns the bytes that become free with this link; a file that is missing frees none */
  take(file: string): number {
    const stat = statIfPresentSync(file);
    if (stat?.isFile() !== true) return 0;
    const taken = (this.#taken.get(stat.ino) ?? 0n) + 1n;
    if (taken < stat.nlink) {
      this.#taken.set(stat.ino, taken);
      return 0;
    }
    this.#taken.delete(stat.ino);
    return Number(stat.size);
  }
}

/** Counts each file once, whoever has links to it. */
export class CountedFiles {
  readonly #seen = new Set<bigint>();

  /** @returns the file's bytes, if it was not counted before */
  count(file: string): number {
    const stat = statIfPresentSync(file);
    if (stat?.isFile() !== true || this.#seen.has(stat.ino)) return 0;
    if (stat.nlink > 1n) this.#seen.add(stat.ino);
    return Number(stat.size);
  }
}
