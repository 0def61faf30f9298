/** Reads random 4 KiB blocks of a file, one after the other, and prints how long they took. Arguments: FILE COUNT [REFERENCE]. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { SeededRandom } from '../../random.ts';
import type { RandomReadTimes } from '../random-reads.ts';

const BLOCK_BYTES = 4096;

function readBlock(fd: number, block: Uint8Array, offset: number): void {
  for (let done = 0; done < BLOCK_BYTES; ) {
    const got = readSync(fd, block, done, BLOCK_BYTES - done, offset + done);
    if (got === 0) throw new Error(`the file ends at byte ${offset + done}`);
    done += got;
  }
}

function timeReads(fd: number, offsets: readonly number[], blocks: readonly Uint8Array[]): number[] {
  return offsets.map((offset, i) => {
    const startedAt = performance.now();
    readBlock(fd, blocks[i] ?? new Uint8Array(BLOCK_BYTES), offset);
    return performance.now() - startedAt;
  });
}

function compare(reference: string, offsets: readonly number[], blocks: readonly Uint8Array[]): void {
  const fd = openSync(reference, 'r');
  const expected = new Uint8Array(BLOCK_BYTES);
  for (const [i, offset] of offsets.entries()) {
    readBlock(fd, expected, offset);
    if (Buffer.compare(expected, blocks[i] ?? new Uint8Array(0)) !== 0) throw new Error(`wrong bytes at ${offset}`);
  }
  closeSync(fd);
}

const [file = '', count = '0', reference] = process.argv.slice(2);
const random = new SeededRandom('random reads');
const fd = openSync(file, 'r');
const size = fstatSync(fd).size;
const offsets = Array.from({ length: Number(count) }, () => random.below(Math.floor(size / BLOCK_BYTES)) * BLOCK_BYTES);
const blocks = offsets.map(() => new Uint8Array(BLOCK_BYTES));
const startedAt = performance.now();
const latencies = timeReads(fd, offsets, blocks);
const totalMs = performance.now() - startedAt;
closeSync(fd);
if (reference !== undefined) compare(reference, offsets, blocks);
const sorted = latencies.toSorted((a, b) => a - b);
const quantile = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
const times: RandomReadTimes = { totalMs, p50Ms: quantile(0.5), p95Ms: quantile(0.95), p99Ms: quantile(0.99), maxMs: quantile(1) };
process.stdout.write(JSON.stringify(times));
