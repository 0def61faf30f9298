/** A small disk image that changes at random: bands written anew, blocks here and there, holes, another size. */
import { createHash } from 'node:crypto';
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { SeededRandom } from '../random.ts';

export const BAND_BYTES = 262_144;
const BLOCK_BYTES = 4096;

export class ScratchImage {
  readonly file: string;
  readonly #random: SeededRandom;
  #bands: number;

  constructor(file: string, random: SeededRandom, bands: number) {
    this.file = file;
    this.#random = random;
    this.#bands = bands;
    this.#withFile((fd) => ftruncateSync(fd, bands * BAND_BYTES));
    this.change();
  }

  #withFile(use: (fd: number) => void): void {
    const fd = openSync(this.file, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      use(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Always changes something: bytes that are new are written last. */
  change(): void {
    const random = this.#random;
    this.#withFile((fd) => {
      if (random.below(6) === 0) {
        this.#bands = Math.max(4, this.#bands + random.below(7) - 3);
        ftruncateSync(fd, this.#bands * BAND_BYTES - random.below(2) * 512);
      }
      const at = (): number => random.below(this.#bands - 1) * BAND_BYTES;
      for (let i = random.below(4); i >= 0; i--) writeSync(fd, random.bytes(BAND_BYTES), 0, BAND_BYTES, at());
      for (let i = random.below(3); i > 0; i--) writeSync(fd, new Uint8Array(BAND_BYTES), 0, BAND_BYTES, at());
      for (let i = random.below(6); i >= 0; i--) writeSync(fd, random.bytes(BLOCK_BYTES), 0, BLOCK_BYTES, at() + BLOCK_BYTES);
    });
  }

  digest(): string {
    return digestOfFile(this.file);
  }
}

/** SHA-256 in hex. */
export function digestOfFile(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}
