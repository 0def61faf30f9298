/** What is fuzzed: a decoder, samples of what it takes, and what must hold of any input. */
import type { ErrorCode } from '../../bands/errors.ts';

export interface FuzzTarget {
  readonly name: string;
  readonly samples: readonly Uint8Array[];
  /** The codes with which an input may be refused. */
  readonly codes: readonly ErrorCode[];
  /**
   * Decodes an input and throws an Error that is no TimebandError if what came out breaks a rule: a value that does not
   * encode to the same bytes, data that was not authenticated, a range outside.
   */
  decode(bytes: Uint8Array): void;
}

/** For a rule that does not hold. */
export function broken(rule: string): Error {
  return new Error(`broken rule: ${rule}`);
}
