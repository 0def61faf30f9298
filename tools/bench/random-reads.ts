/** Random reads of a file by a process of their own: the process that serves a mount must never wait for itself. */
import { fileURLToPath } from 'node:url';
import type { Runner, Usage } from './measure.ts';

const CHILD = fileURLToPath(new URL('./children/random-reads.js', import.meta.url));
export const RANDOM_READS = 500;

/** What the child prints. */
export interface RandomReadTimes {
  readonly totalMs: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface RandomReads {
  readonly file: string;
  /** What the blocks must be equal to; blocks of zeros there are not read. */
  readonly reference: string | undefined;
  /** How many blocks, of all readers together; always the same ones. */
  readonly reads?: number;
  /** How many read at once. */
  readonly readers?: number;
}

export async function readRandomly(runner: Runner, target: RandomReads): Promise<{ readonly usage: Usage; readonly note: string }> {
  const { file, reference, reads = RANDOM_READS, readers = 1 } = target;
  const argv = [process.execPath, CHILD, file, String(reads), String(readers), ...(reference === undefined ? [] : [reference])];
  const { stdout } = await runner.run({ argv });
  const times: RandomReadTimes = JSON.parse(stdout);
  const shown = [times.p50Ms, times.p95Ms, times.p99Ms, times.maxMs].map((ms) => ms.toFixed(2));
  // The child's own CPU time is Node starting; what the reads cost is counted at the server.
  return { usage: { wallMs: times.totalMs, cpuMs: 0, peakRssBytes: undefined }, note: `p50/p95/p99/max ${shown.join('/')} ms` };
}
