/** Any bytes into a decoder: it returns a value that encodes to the same bytes, or throws the one expected code. */
import type { ExecutionContext } from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../bands/errors.ts';
import { flipBit, isSame } from '../../support/bytes.ts';

const HUGE = [0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0x0001_0000, 0];

function overwrite(bytes: Uint8Array, at: number, word: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  if (at + 4 <= copy.length) new DataView(copy.buffer).setUint32(at, word, true);
  return copy;
}

function splice(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  return Uint8Array.from([...bytes.subarray(0, at), ...insert, ...bytes.subarray(at + remove)]);
}

/** Copies of `sample` with one damage: a bit, a cut, an extension, a length field of any size, bytes added or left out. */
export function damaged(sample: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat(Math.max(0, sample.length - 1));
  const junk = fc.uint8Array({ minLength: 1, maxLength: 40 });
  return fc.oneof(
    fc.nat(Math.max(0, sample.length * 8 - 1)).map((bit) => flipBit(sample, bit)),
    at.map((end) => sample.slice(0, end)),
    junk.map((tail) => splice(sample, sample.length, 0, tail)),
    fc.tuple(at, fc.constantFrom(...HUGE)).map(([start, word]) => overwrite(sample, start, word)),
    fc.tuple(at, fc.nat(8), fc.uint8Array({ maxLength: 8 })).map(([start, remove, insert]) => splice(sample, start, remove, insert)),
  );
}

export interface DecoderUnderTest<T> {
  decode(bytes: Uint8Array): T;
  /** Left out where a value has more than one encoding. */
  encode?(value: T): Uint8Array;
  readonly code: string;
  readonly samples: readonly Uint8Array[];
}

/** Whether `decode` throws exactly a TimebandError of `code`. */
export function isRefused(decode: () => unknown, code: string): boolean {
  try {
    decode();
    return false;
  } catch (error) {
    if (error instanceof TimebandError && error.code === code) return true;
    throw error;
  }
}

export function takesAnyBytes<T>(t: ExecutionContext, decoder: DecoderUnderTest<T>, numRuns = 400): void {
  const inputs = fc.oneof(fc.uint8Array({ maxLength: 300 }), ...decoder.samples.map((sample) => damaged(sample)));
  const isSound = (bytes: Uint8Array): boolean => {
    const input = Uint8Array.from(bytes);
    let value: T | undefined;
    const refused = isRefused(() => {
      value = decoder.decode(input);
    }, decoder.code);
    if (!isSame(input, bytes)) return false; // a decoder leaves its input alone
    return refused || value === undefined || decoder.encode === undefined || isSame(decoder.encode(value), bytes);
  };
  fc.assert(fc.property(inputs, isSound), { numRuns });
  t.pass();
}
