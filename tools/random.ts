/** Bytes and numbers that look random and are the same in every run: AES-128-CTR over zeros, keyed by a name. */
import { type Cipher, createCipheriv, createHash } from 'node:crypto';

const INTEGER_BYTES = 6;

export class SeededRandom {
  readonly #stream: Cipher;

  constructor(seed: string) {
    const key = createHash('sha256').update(seed).digest();
    this.#stream = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
  }

  bytes(length: number): Uint8Array {
    return this.#stream.update(new Uint8Array(length));
  }

  /** An integer from 0 to below `limit` (at most 2^40: beyond, the remainder would show). */
  below(limit: number): number {
    return Buffer.from(this.bytes(INTEGER_BYTES)).readUIntBE(0, INTEGER_BYTES) % limit;
  }
}
