/**
 * Random 4 KiB blocks of a file, read by several threads at once, each one block after the other; prints how long they took.
 * Arguments: FILE COUNT READERS [REFERENCE]. With a reference only blocks that hold something there are read, and what was read
 * must be equal to it.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { SeededRandom } from '../../random.ts';
import type { RandomReadTimes } from '../random-reads.ts';

const BLOCK_BYTES = 4096;
/** Timeband's chunks; restic's and borg's are larger. */
const PIECE_BYTES = 131_072;

interface ReaderTask {
  readonly file: string;
  readonly reference: string | undefined;
  readonly offsets: readonly number[];
  /** Becomes 1 when all may begin. */
  readonly start: Int32Array;
}

/** What a reader says, in this order: it is there, it has read (with its latencies), and all was right. */
type ReaderMessage = 'ready' | 'right' | readonly number[];

function readBlock(fd: number, block: Uint8Array, offset: number): Uint8Array {
  for (let done = 0; done < BLOCK_BYTES; ) {
    const got = readSync(fd, block, done, BLOCK_BYTES - done, offset + done);
    if (got === 0) throw new Error(`the file ends at byte ${offset + done}`);
    done += got;
  }
  return block;
}

function read({ file, reference, offsets, start }: ReaderTask, say: (message: ReaderMessage) => void): void {
  const fd = openSync(file, 'r');
  const blocks = offsets.map(() => new Uint8Array(BLOCK_BYTES));
  say('ready');
  Atomics.wait(start, 0, 0);
  const latencies = offsets.map((offset, i) => {
    const startedAt = performance.now();
    readBlock(fd, blocks[i] ?? new Uint8Array(BLOCK_BYTES), offset);
    return performance.now() - startedAt;
  });
  say(latencies);
  closeSync(fd);
  if (reference !== undefined) compare(reference, offsets, blocks);
  say('right');
}

function compare(reference: string, offsets: readonly number[], blocks: readonly Uint8Array[]): void {
  const fd = openSync(reference, 'r');
  const expected = new Uint8Array(BLOCK_BYTES);
  for (const [i, offset] of offsets.entries()) {
    if (Buffer.compare(readBlock(fd, expected, offset), blocks[i] ?? new Uint8Array(0)) !== 0) throw new Error(`wrong bytes at ${offset}`);
  }
  closeSync(fd);
}

/** Where to read: the same in every run, and, as long as there is enough, never twice in one piece that tools decode at once. */
function chooseOffsets(file: string, count: number, reference: string | undefined): number[] {
  const random = new SeededRandom('random reads');
  const fd = openSync(reference ?? file, 'r');
  const blocks = Math.floor(fstatSync(fd).size / BLOCK_BYTES);
  const block = new Uint8Array(BLOCK_BYTES);
  const offsets: number[] = [];
  const pieces = new Set<number>();
  while (offsets.length < count) {
    if (pieces.size * 2 * PIECE_BYTES > blocks * BLOCK_BYTES) pieces.clear();
    const offset = random.below(blocks) * BLOCK_BYTES;
    const piece = Math.floor(offset / PIECE_BYTES);
    if (pieces.has(piece) || (reference !== undefined && readBlock(fd, block, offset).every((byte) => byte === 0))) continue;
    pieces.add(piece);
    offsets.push(offset);
  }
  closeSync(fd);
  return offsets;
}

/** Starts the readers, lets them begin at once, and waits for all. */
async function readTogether(tasks: readonly ReaderTask[], start: Int32Array): Promise<{ readonly totalMs: number; readonly latencies: number[] }> {
  const latencies: number[] = [];
  let waiting = tasks.length;
  let startedAt = 0;
  let totalMs = 0;
  await Promise.all(
    tasks.map(
      (task) =>
        new Promise<void>((resolve, reject) => {
          const worker = new Worker(new URL(import.meta.url), { workerData: task });
          worker.once('error', reject);
          worker.on('message', (message: ReaderMessage) => {
            if (message === 'right') return resolve();
            if (message !== 'ready') {
              latencies.push(...message);
              totalMs = performance.now() - startedAt;
              return;
            }
            if (--waiting > 0) return;
            startedAt = performance.now();
            Atomics.store(start, 0, 1);
            Atomics.notify(start, 0);
          });
        }),
    ),
  );
  return { totalMs, latencies };
}

async function main(): Promise<void> {
  const [file = '', count = '0', readers = '1', reference] = process.argv.slice(2);
  const offsets = chooseOffsets(file, Number(count), reference);
  const start = new Int32Array(new SharedArrayBuffer(4));
  const tasks = Array.from({ length: Number(readers) }, (_, reader) => ({
    file,
    reference,
    offsets: offsets.filter((_offset, i) => i % Number(readers) === reader),
    start,
  }));
  const { totalMs, latencies } = await readTogether(tasks, start);
  const sorted = latencies.toSorted((a, b) => a - b);
  const quantile = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const times: RandomReadTimes = { totalMs, p50Ms: quantile(0.5), p95Ms: quantile(0.95), p99Ms: quantile(0.99), maxMs: quantile(1) };
  process.stdout.write(JSON.stringify(times));
}

if (isMainThread) await main();
else read(workerData, (message) => parentPort?.postMessage(message));
