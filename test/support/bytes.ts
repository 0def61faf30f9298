/** Bytes in tests: hex, comparison without AVA's slow deepEqual, damage, and content that anyone can make again. */
import { createHash } from 'node:crypto';
import type { ExecutionContext } from 'ava';

export function hex(text: string): Uint8Array {
  if (!/^(?:[0-9a-f]{2})*$/.test(text)) throw new TypeError(`text: "${text}" is not hex`);
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Asserts equal bytes; a failure names the first difference. */
export function sameBytes(t: ExecutionContext, actual: Uint8Array, expected: Uint8Array, what = 'bytes'): void {
  if (isSame(actual, expected)) {
    t.pass();
    return;
  }
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  t.fail(`${what}: ${actual.length} bytes, ${expected.length} expected; they differ from byte ${at === -1 ? actual.length : at}`);
}

/** A copy with one bit turned. */
export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[bit >>> 3] = (copy[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

/** A copy that starts at an odd address of a larger buffer. */
export function unaligned(bytes: Uint8Array): Uint8Array {
  const room = new Uint8Array(bytes.length + 8);
  room.set(bytes, 3);
  return room.subarray(3, 3 + bytes.length);
}

/** Bytes that a label stands for: SHA-256(label ‖ u32le 0) ‖ SHA-256(label ‖ u32le 1) ‖ …, cut to `length`. */
export function fill(label: string, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(length / 32) * 32);
  const counter = new Uint8Array(4);
  for (let i = 0; i * 32 < length; i++) {
    new DataView(counter.buffer).setUint32(0, i, true);
    bytes.set(createHash('sha256').update(label).update(counter).digest(), i * 32);
  }
  return bytes.subarray(0, length);
}
