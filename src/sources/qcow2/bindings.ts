/**
 * Which bitmap belongs to which session, for one volume on this machine: a small file in the state folder. A bitmap's name
 * holds random digits, so a name that is found in an image is that bitmap, or a copy of it that went along with its data.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { TimebandError } from '../../../bands/errors.ts';
import { utf8 } from '../../../bands/format/bytes.ts';
import { createDirectories, readRegularFile, replaceFile } from '../../../bands/store/files.ts';
import type { SourceOwner } from '../source.ts';

const MAX_BYTES = 1_048_576;

export interface Binding {
  readonly bitmap: string;
  /** As in SessionToken. */
  readonly commitId: string;
  /** Of the backing files when the bitmap began, as `stampFiles` gives it. */
  readonly backingStamp: string | undefined;
  /** Offsets that were made dirty in the bitmap when it began, as proof that it is still that one, and whole. */
  readonly marks: readonly number[];
}

/** The folder of this machine's records of one repository's qcow2 sources. */
export function qcow2StateFolder(stateDirectory: string, { repositoryId }: SourceOwner): string {
  return path.join(stateDirectory, repositoryId, 'qcow2');
}

export class Qcow2Bindings {
  readonly #file: string;

  constructor(stateDirectory: string, owner: SourceOwner) {
    this.#file = path.join(qcow2StateFolder(stateDirectory, owner), `${owner.volumeId}.json`);
  }

  /** None if there is no record, or none that can be read: then everything is read. */
  async read(): Promise<readonly Binding[]> {
    try {
      const bytes = await readRegularFile(this.#file, { maxBytes: MAX_BYTES, what: 'record of bitmaps' });
      const parsed: unknown = JSON.parse(new TextDecoder().decode(bytes));
      return Array.isArray(parsed) ? parsed.flatMap(toBinding) : [];
    } catch (error) {
      if (error instanceof TimebandError || error instanceof SyntaxError) return [];
      throw error;
    }
  }

  /** Durable when it returns. */
  async write(bindings: readonly Binding[]): Promise<void> {
    await createDirectories(path.dirname(this.#file));
    await replaceFile(this.#file, utf8(JSON.stringify(bindings)));
  }

  /** Where the marks of a new bitmap are made. */
  async scratchFile(): Promise<string> {
    await createDirectories(path.dirname(this.#file));
    return path.resolve(`${this.#file}.marks`);
  }

  async remove(): Promise<void> {
    await rm(this.#file, { force: true });
  }
}

function toBinding(value: unknown): Binding[] {
  if (typeof value !== 'object' || value === null) return [];
  const { bitmap, commitId, backingStamp, marks } = value as Record<string, unknown>;
  if (typeof bitmap !== 'string' || typeof commitId !== 'string' || !Array.isArray(marks) || !marks.every(Number.isSafeInteger)) return [];
  return [{ bitmap, commitId, backingStamp: typeof backingStamp === 'string' ? backingStamp : undefined, marks }];
}
