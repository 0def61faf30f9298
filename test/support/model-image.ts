/** An image file that is changed together with a plain array of its bytes, and steps that fast-check makes up. */
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import fc from 'fast-check';
import type { ByteRange } from '../../bands/format/geometry.ts';
import { fill } from './bytes.ts';
import { sh } from './workspace.ts';

/** A change of the image. Positions are shares of its size in thousandths, so that they fit whatever size it has. */
export type ImageStep =
  | { readonly kind: 'write' | 'zero' | 'punch'; readonly at: number; readonly length: number; readonly seed: number }
  | { readonly kind: 'fill band' | 'clear band' | 'punch band'; readonly at: number; readonly seed: number }
  | { readonly kind: 'resize'; readonly sectors: number };

const place = fc.integer({ min: 0, max: 999 });
const seed = fc.integer({ min: 0, max: 9 });

/** Steps for images of up to `maxSectors` sectors of 512 bytes. */
export function imageSteps(maxSectors: number): fc.Arbitrary<ImageStep> {
  const length = fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 4096, max: 400_000 }));
  return fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('write', 'zero', 'punch'), at: place, length, seed }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('fill band', 'clear band', 'punch band'), at: place, seed }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('resize'), sectors: fc.integer({ min: 1, max: maxSectors }) }) },
  );
}

export class ModelImage {
  readonly file: string;
  readonly #bandBytes: number;
  /** What the file holds. */
  bytes: Uint8Array;
  /** Where it was touched since `takeTouched`. */
  #touched: ByteRange[] = [];

  constructor(file: string, sectors: number, bandBytes: number) {
    this.file = file;
    this.#bandBytes = bandBytes;
    this.bytes = new Uint8Array(sectors * 512);
    this.#withFile((fd) => ftruncateSync(fd, this.bytes.length));
  }

  #withFile(use: (fd: number) => void): void {
    const fd = openSync(this.file, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      use(fd);
    } finally {
      closeSync(fd);
    }
  }

  apply(step: ImageStep): void {
    if (step.kind === 'resize') {
      this.#resize(step.sectors * 512);
      return;
    }
    const { size, ...range } = this.#rangeOf(step);
    if (size === 0) return;
    if (step.kind.startsWith('punch')) this.#punch(range.offset, size);
    else this.#write(range.offset, step.kind === 'write' || step.kind === 'fill band' ? fill(`model ${step.seed}`, size) : new Uint8Array(size));
  }

  #rangeOf(step: Exclude<ImageStep, { kind: 'resize' }>): { readonly offset: number; readonly size: number } {
    const at = Math.floor((step.at / 1000) * this.bytes.length);
    const isBand = !('length' in step);
    const offset = isBand ? at - (at % this.#bandBytes) : at;
    return { offset, size: Math.min(isBand ? this.#bandBytes : step.length, this.bytes.length - offset) };
  }

  #write(offset: number, bytes: Uint8Array): void {
    this.#withFile((fd) => writeSync(fd, bytes, 0, bytes.length, offset));
    this.bytes.set(bytes, offset);
    this.#touched.push({ offset, length: bytes.length });
  }

  #punch(offset: number, length: number): void {
    sh('fallocate', '--punch-hole', '--offset', String(offset), '--length', String(length), this.file);
    this.bytes.fill(0, offset, offset + length);
    this.#touched.push({ offset, length });
  }

  #resize(sizeBytes: number): void {
    const old = this.bytes;
    this.#withFile((fd) => ftruncateSync(fd, sizeBytes));
    this.bytes = new Uint8Array(sizeBytes);
    this.bytes.set(old.subarray(0, sizeBytes));
    const offset = Math.min(old.length, sizeBytes);
    this.#touched.push({ offset, length: Math.abs(old.length - sizeBytes) });
  }

  /** The ranges touched since the last call: what a tracker of changes would know. */
  takeTouched(): ByteRange[] {
    const touched = this.#touched;
    this.#touched = [];
    return touched;
  }
}

/** The bands of an image, each padded with zeros. */
export function bandsOf(bytes: Uint8Array, bandBytes: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(bytes.length / bandBytes) }, (_, i) => {
    const band = new Uint8Array(bandBytes);
    band.set(bytes.subarray(i * bandBytes, (i + 1) * bandBytes));
    return band;
  });
}
