/** Damages inputs: of a sample, one to four of the faults that disks, people and attackers make; at times no sample at all. */
import type { FastRandom } from './random.ts';

const MAX_NOISE = 300;
const MAX_INSERTED = 64;
const INTERESTING_WORDS = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
const INTERESTING_TEXTS = [
  'null',
  '-1',
  '1e999',
  '9007199254740993',
  '""',
  '[]',
  '{}',
  '\u0000',
  '../..',
  '"__proto__":1,',
  '\ud800',
  '9'.repeat(40),
];

type Fault = (bytes: Uint8Array, random: FastRandom) => Uint8Array;

function splice(bytes: Uint8Array, at: number, removed: number, added: Uint8Array): Uint8Array {
  const rest = bytes.subarray(Math.min(bytes.length, at + removed));
  const out = new Uint8Array(at + added.length + rest.length);
  out.set(bytes.subarray(0, at));
  out.set(added, at);
  out.set(rest, at + added.length);
  return out;
}

function noise(length: number, random: FastRandom): Uint8Array {
  return Uint8Array.from({ length }, () => random.next());
}

const flipBit: Fault = (bytes, random) => {
  const copy = bytes.slice();
  const at = random.below(copy.length);
  if (at < copy.length) copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
  return copy;
};

const setByte: Fault = (bytes, random) => {
  const copy = bytes.slice();
  if (copy.length > 0) copy[random.below(copy.length)] = random.next();
  return copy;
};

/** A length field of any size, in either byte order, at any place. */
const setWord: Fault = (bytes, random) => {
  if (bytes.length < 4) return flipBit(bytes, random);
  const copy = bytes.slice();
  new DataView(copy.buffer).setUint32(random.below(copy.length - 3), random.pick(INTERESTING_WORDS), random.below(2) === 0);
  return copy;
};

const cut: Fault = (bytes, random) => bytes.slice(0, random.below(bytes.length));
const extend: Fault = (bytes, random) => splice(bytes, bytes.length, 0, noise(1 + random.below(MAX_INSERTED), random));
const insertText: Fault = (bytes, random) =>
  splice(bytes, random.below(bytes.length + 1), random.below(8), new TextEncoder().encode(random.pick(INTERESTING_TEXTS)));

/** A stretch of the input once more, elsewhere: a doubled field, a block out of order. */
const repeatPart: Fault = (bytes, random) => {
  const from = random.below(bytes.length);
  const part = bytes.slice(from, from + 1 + random.below(MAX_INSERTED));
  return splice(bytes, random.below(bytes.length + 1), random.below(2) * part.length, part);
};

const removePart: Fault = (bytes, random) => splice(bytes, random.below(bytes.length), 1 + random.below(MAX_INSERTED), new Uint8Array(0));

const FAULTS: readonly Fault[] = [flipBit, setByte, setWord, cut, extend, insertText, repeatPart, removePart];

/** The input that `random` stands for. */
export function mutate(samples: readonly Uint8Array[], random: FastRandom): Uint8Array {
  const kind = random.below(32);
  if (kind === 0) return noise(random.below(MAX_NOISE), random);
  let bytes: Uint8Array = Uint8Array.from(random.pick(samples)); // slice() of a Buffer would be a view
  if (kind === 1) return bytes;
  for (let faults = 1 + random.below(4); faults > 0; faults--) bytes = random.pick(FAULTS)(bytes, random);
  return bytes;
}
