/** Buffers that are used again, and fast tests for zeros. */

const MAX_ZEROS_BYTES = 4_194_304;
const zeros = new Uint8Array(MAX_ZEROS_BYTES);
/** Reads past the page cache (O_DIRECT) begin and end at multiples of this, in the file and in memory; all common devices agree with it. */
export const DIRECT_BLOCK_BYTES = 4096;
/** Granularity of holes, and of what is written in place, in a restored file: the block size of the common file systems. */
const BLOCK_BYTES = 4096;

/** Whether all bytes are zero, at the speed of memcmp; bytes that are not are recognised at the first of them. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += MAX_ZEROS_BYTES) {
    const part = bytes.subarray(at, at + MAX_ZEROS_BYTES);
    if (Buffer.compare(part, part.length === MAX_ZEROS_BYTES ? zeros : zeros.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}

/** The runs [start, end) of 4 KiB blocks that are not all zero. */
export function* nonZeroRuns(bytes: Uint8Array): Generator<readonly [number, number]> {
  let start = -1;
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const isHole = bytes[at] === 0 && isZero(bytes.subarray(at, at + BLOCK_BYTES));
    if (isHole && start >= 0) yield [start, at];
    start = isHole ? -1 : start >= 0 ? start : at;
  }
  if (start >= 0) yield [start, bytes.length];
}

/** The runs [start, end) of 4 KiB blocks in which `a` and `b`, of one length, differ. */
export function* differingRuns(a: Uint8Array, b: Uint8Array): Generator<readonly [number, number]> {
  let start = -1;
  for (let at = 0; at < a.length; at += BLOCK_BYTES) {
    const isSame = Buffer.compare(a.subarray(at, at + BLOCK_BYTES), b.subarray(at, at + BLOCK_BYTES)) === 0;
    if (isSame && start >= 0) yield [start, at];
    start = isSame ? -1 : start >= 0 ? start : at;
  }
  if (start >= 0) yield [start, a.length];
}

/** Lends buffers and takes them back; as many exist as were ever lent at once. */
export class BufferPool {
  readonly #free: Uint8Array[] = [];

  /** Lends a buffer of at least `length` bytes, cut to `length`, while `run` runs. Its content is whatever it was. */
  async use<T>(length: number, run: (buffer: Uint8Array) => Promise<T>): Promise<T> {
    const at = this.#free.findIndex((one) => one.length >= length);
    if (at < 0) this.#free.pop(); // one too small makes room for the one that is made
    const buffer = at >= 0 ? (this.#free.splice(at, 1)[0] ?? new Uint8Array(length)) : pageAligned(roundUp(length));
    try {
      return await run(buffer.subarray(0, length));
    } finally {
      this.#free.push(buffer);
    }
  }
}

/** Sizes come in steps, so that band files of many lengths share buffers. */
function roundUp(length: number): number {
  const step = 524_288;
  return Math.ceil(length / step) * step;
}

declare const WebAssembly: { readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer } };
const WASM_PAGE_BYTES = 65_536;

/** Zeroed memory that begins at a page, as O_DIRECT needs it: in JavaScript only WebAssembly's does so for certain. */
export function pageAligned(bytes: number): Uint8Array {
  return new Uint8Array(new WebAssembly.Memory({ initial: Math.ceil(bytes / WASM_PAGE_BYTES) }).buffer, 0, bytes);
}
