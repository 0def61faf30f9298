/** Byte helpers that every codec shares. Pure. */
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';

export { bytesToHex as toHex, concatBytes as concat, utf8ToBytes as utf8 };

const HEX = /^(?:[0-9a-f]{2})*$/;

/** Lower-case hex of exactly `length` bytes, or undefined for anything else. */
export function fromHex(text: string, length: number): Uint8Array | undefined {
  return text.length === length * 2 && HEX.test(text) ? hexToBytes(text) : undefined;
}

/** Whether two byte strings are the same. Not constant-time: for digests and public values. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Whether every byte is zero. For short strings; bulk data has its own test. */
export function isAllZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** An unsigned 32-bit little-endian integer. By hand: the index reads millions of them, and a DataView is four times slower. */
export function readU32le(bytes: Uint8Array, at: number): number {
  if (at < 0 || at + 4 > bytes.length) throw new RangeError('at: beyond the bytes');
  return ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
}

export function writeU32le(bytes: Uint8Array, at: number, value: number): void {
  viewOf(bytes).setUint32(at, value >>> 0, true);
}

/** An unsigned 64-bit big-endian integer of a safe JavaScript number. */
export function u64be(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError('value: not a safe whole number');
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, BigInt(value), false);
  return bytes;
}
