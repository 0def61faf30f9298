/** A bit for each band, bit 0 of byte 0 first; unused bits are 0. FORMAT.md, "Bitmap". */
import { TimebandError } from '../errors.ts';

export class Bitmap {
  readonly size: number;
  readonly #bytes: Uint8Array;

  /** `size` bits, all clear. */
  constructor(size: number, bytes: Uint8Array = new Uint8Array(Math.ceil(size / 8))) {
    this.size = size;
    this.#bytes = bytes;
  }

  /** The encoded form, ⌈size / 8⌉ bytes (not a copy). */
  encode(): Uint8Array {
    return this.#bytes;
  }

  /** @throws TimebandError RECORD_CORRUPT if the length is wrong or an unused bit is set */
  static decode(bytes: Uint8Array, size: number): Bitmap {
    const used = size % 8;
    const hasTail = used !== 0 && (bytes.at(-1) ?? 0) >> used !== 0;
    if (bytes.length !== Math.ceil(size / 8) || hasTail) {
      throw new TimebandError(`bitmap: ${bytes.length} bytes do not hold ${size} bits`, { code: 'RECORD_CORRUPT' });
    }
    return new Bitmap(size, bytes);
  }

  has(i: number): boolean {
    return i < this.size && ((this.#bytes[i >>> 3] ?? 0) & (1 << (i & 7))) !== 0;
  }

  set(i: number): void {
    if (!Number.isInteger(i) || i < 0 || i >= this.size) throw new RangeError('i: beyond the bitmap');
    this.#bytes[i >>> 3] = (this.#bytes[i >>> 3] ?? 0) | (1 << (i & 7));
  }

  /** Sets every bit in [first, end) that the bitmap has. */
  setRange(first: number, end: number): void {
    for (let i = first; i < Math.min(end, this.size); i++) this.set(i);
  }

  /** Sets the bits that `other` has; bits of `other` beyond this size are left out. */
  or(other: Bitmap): void {
    for (const i of other) if (i < this.size) this.set(i);
  }

  count(): number {
    let count = 0;
    for (const byte of this.#bytes) for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
    return count;
  }

  /** The set bits, ascending. */
  *[Symbol.iterator](): Generator<number> {
    for (let at = 0; at < this.#bytes.length; at++) {
      const byte = this.#bytes[at] ?? 0;
      for (let bit = 0; byte >> bit !== 0; bit++) if ((byte >> bit) & 1) yield at * 8 + bit;
    }
  }
}
