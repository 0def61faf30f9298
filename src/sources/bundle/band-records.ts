/**
 * The records of one bundle's band files on this machine: STATE/REPOSITORY/bundle/VOLUME/COMMIT.bands. One is kept, that
 * of the newest session; while a session is committed there are two, so that a crash leaves the one that counts.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError } from '../../../bands/errors.ts';
import { createDirectories, replaceFile } from '../../../bands/store/files.ts';
import type { SessionToken, SourceContext, SourceOwner } from '../source.ts';
import { type BandRecord, decodeBandRecord, encodeBandRecord } from './band-record.ts';

export class BandRecords {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Undefined where nothing can be kept. */
  static of({ owner, stateDirectory }: SourceContext): BandRecords | undefined {
    if (owner === undefined || stateDirectory === undefined) return undefined;
    return new BandRecords(folderOf(stateDirectory, owner));
  }

  #file(token: SessionToken): string {
    return path.join(this.#folder, `${token.commitId}.bands`);
  }

  /** The record of a session, or why there is none. */
  async read(token: SessionToken): Promise<BandRecord | { readonly reason: string }> {
    let bytes: Uint8Array;
    try {
      bytes = await readFile(this.#file(token));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return { reason: 'this machine holds no record of the bundle as of the last session' };
      throw ioError(error, 'read the record', this.#file(token));
    }
    const record = decodeBandRecord(bytes, token);
    if (record === 'damaged') return { reason: `the record ${this.#file(token)} is damaged` };
    return record === 'foreign' ? { reason: `the record ${this.#file(token)} is of another session` } : record;
  }

  async write(token: SessionToken, record: BandRecord): Promise<void> {
    await createDirectories(this.#folder);
    await replaceFile(this.#file(token), encodeBandRecord(record, token));
  }

  /** Removes all but the record of `token`; without it, the folder, too. @returns what was removed */
  async removeOthers(token: SessionToken | undefined): Promise<string[]> {
    const kept = token === undefined ? undefined : path.basename(this.#file(token));
    try {
      const others = (await readdir(this.#folder)).filter((name) => name !== kept).map((name) => path.join(this.#folder, name));
      for (const file of others) await rm(file, { force: true });
      if (token === undefined) await rm(this.#folder, { recursive: true, force: true });
      return others;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
      throw ioError(error, 'remove the records in', this.#folder);
    }
  }
}

function folderOf(stateDirectory: string, { repositoryId, volumeId }: SourceOwner): string {
  return path.join(stateDirectory, repositoryId, 'bundle', volumeId);
}
