/** Reads test/fixtures/vectors (its README.md says what is in there). */
import { readFileSync } from 'node:fs';

// From dist/test/bands/format to the folder of the sources: the compiler copies no JSON.
const FOLDER = new URL('../../../../test/fixtures/vectors/', import.meta.url);

export function readVectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), 'utf8')) as T;
}

/** A file with one fault, in hex, and the code of the error that it must give. */
export interface FaultyFile {
  readonly name: string;
  readonly file: string;
  readonly error: string;
}

/** A text with one fault, and the code of the error that it must give. */
export interface FaultyText {
  readonly name: string;
  readonly text: string;
  readonly error: string;
}
