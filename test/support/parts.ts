/** Sparse files made of a few parts, and files compared byte for byte except where damage is known. */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import type { ByteRange } from '../../bands/format/geometry.ts';

const STEP_BYTES = 1_048_576;

export interface Part {
  readonly at: number;
  readonly bytes: Uint8Array;
}

function withFile<T>(file: string, flags: number, use: (fd: number) => T): T {
  const fd = openSync(file, flags, 0o600);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** Makes a sparse file, or cuts or grows one, and writes parts into it. */
export function writeParts(file: string, sizeBytes: number, parts: readonly Part[] = []): void {
  withFile(file, constants.O_RDWR | constants.O_CREAT, (fd) => {
    ftruncateSync(fd, sizeBytes);
    for (const { at, bytes } of parts) writeSync(fd, bytes, 0, bytes.length, at);
  });
}

/** Reads into `out`; gives the part that was filled. */
function readAt(fd: number, at: number, out: Uint8Array): Uint8Array {
  for (let done = 0; done < out.length; ) {
    const got = readSync(fd, out, done, out.length - done, at + done);
    if (got === 0) return out.subarray(0, done);
    done += got;
  }
  return out;
}

/** The bytes of a file's range; fewer where it ends. */
export function readPart(file: string, at: number, length: number): Uint8Array {
  return withFile(file, constants.O_RDONLY, (fd) => readAt(fd, at, new Uint8Array(length)));
}

/** `bytes`, which lie at `at` of a volume, with zeros where `ranges` are. */
export function withZeros(bytes: Uint8Array, at: number, ranges: readonly ByteRange[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  for (const { offset, length } of ranges) copy.fill(0, Math.max(0, offset - at), Math.max(0, offset + length - at));
  return copy;
}

/** Where `actual` is not as `expected` with zeros in the ranges `zeros`; undefined if nowhere. */
export function firstWrongByte(actual: string, expected: string, zeros: readonly ByteRange[] = []): number | undefined {
  return withFile(actual, constants.O_RDONLY, (fdA) =>
    withFile(expected, constants.O_RDONLY, (fdB) => {
      const { size } = fstatSync(fdB);
      const [bufferA, bufferB] = [new Uint8Array(STEP_BYTES), new Uint8Array(STEP_BYTES)];
      for (let at = 0; at < size; at += STEP_BYTES) {
        const plain = readAt(fdB, at, bufferB);
        const a = readAt(fdA, at, bufferA.subarray(0, plain.length));
        const b = zeros.some(({ offset, length }) => offset < at + STEP_BYTES && offset + length > at) ? withZeros(plain, at, zeros) : plain;
        if (Buffer.compare(a, b) !== 0) return at + b.findIndex((byte, i) => byte !== a[i]);
      }
      return fstatSync(fdA).size > size && fstatSync(fdA).isFile() ? size : undefined;
    }),
  );
}
