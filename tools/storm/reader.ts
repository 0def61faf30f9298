/**
 * A process that reads images of a mount, here in order and there at random, and compares all with what they must be:
 * `node reader.js '{"images": …}'`. It reads until its stdin ends, and prints how many bytes it read since it last said so.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { SeededRandom } from '../random.ts';

export interface ReaderTask {
  /** Each is the image of a session, and a file that must have the same bytes. */
  readonly images: readonly { readonly image: string; readonly reference: string }[];
  readonly seed: string;
  /** Past the page cache, so that each read reaches the server. */
  readonly isDirect: boolean;
}

const MAX_READ_BYTES = 1_048_576;
const BLOCK_BYTES = 4096;
const STRETCH_READS = 16;
/** Short of it nothing is said, but for the first time. */
const SAY_BYTES = 33_554_432;

const task: ReaderTask = JSON.parse(process.argv[2] ?? '{}');
const random = new SeededRandom(task.seed);
const out = new Uint8Array(MAX_READ_BYTES);
const expected = new Uint8Array(MAX_READ_BYTES);
let isWanted = true;
process.stdin.on('end', () => {
  isWanted = false;
});
process.stdin.resume();

function readAll(fd: number, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.length; ) {
    const got = readSync(fd, into, done, into.length - done, offset + done);
    if (got === 0) throw new Error(`the file ends at byte ${offset + done}`);
    done += got;
  }
}

/** One stretch in order, or reads here and there, of one image. @returns bytes */
function readSome(image: string, reference: string): number {
  const fd = openSync(image, constants.O_RDONLY | (task.isDirect ? constants.O_DIRECT : 0));
  const referenceFd = openSync(reference, 'r');
  try {
    const { size } = fstatSync(referenceFd);
    const isInOrder = random.below(2) === 0;
    const length = isInOrder ? 131_072 << random.below(4) : BLOCK_BYTES << random.below(6);
    let offset = random.below(size / BLOCK_BYTES) * BLOCK_BYTES;
    let bytes = 0;
    for (let i = 0; i < STRETCH_READS; i++) {
      const part = Math.min(length, size - offset);
      readAll(fd, out.subarray(0, part), offset);
      readAll(referenceFd, expected.subarray(0, part), offset);
      if (Buffer.compare(out.subarray(0, part), expected.subarray(0, part)) !== 0)
        throw new Error(`${image}: wrong bytes within ${part} from ${offset}`);
      bytes += part;
      offset = isInOrder ? (offset + part) % size : random.below(size / BLOCK_BYTES) * BLOCK_BYTES;
    }
    return bytes;
  } finally {
    closeSync(fd);
    closeSync(referenceFd);
  }
}

let unsaid = 0;
let hasSpoken = false;
while (isWanted) {
  const { image, reference } = task.images[random.below(task.images.length)] ?? { image: '', reference: '' };
  unsaid += readSome(image, reference);
  if (!hasSpoken || unsaid >= SAY_BYTES) {
    hasSpoken = true;
    process.stdout.write(`${unsaid}\n`);
    unsaid = 0;
  }
  await turn(); // stdin may have ended
}
process.stdout.write(`${unsaid}\n`);
