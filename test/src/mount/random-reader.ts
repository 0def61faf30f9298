/**
 * A process that reads a file at random and compares it with another: `node random-reader.js '{"file": …}'`.
 * Prints what it found as JSON; the tests start many of them at once.
 */
import { constants, openSync, readFileSync, readSync } from 'node:fs';

export interface ReaderTask {
  readonly file: string;
  readonly reference: string;
  readonly reads: number;
  readonly seed: number;
  /** Past the page cache, so that each read reaches the server. */
  readonly isDirect: boolean;
}

export interface ReaderReport {
  /** Offsets where other bytes came than the reference has. */
  readonly wrong: number[];
  /** Names of the errors. */
  readonly errors: string[];
}

function readAll(fd: number, out: Uint8Array, offset: number): void {
  for (let done = 0; done < out.length; ) {
    const got = readSync(fd, out, done, out.length - done, offset + done);
    if (got === 0) throw Object.assign(new Error('the file ended too early'), { code: 'SHORT' });
    done += got;
  }
}

function nameOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

function run({ file, reference, reads, seed, isDirect }: ReaderTask): ReaderReport {
  const expected = readFileSync(reference);
  const report: ReaderReport = { wrong: [], errors: [] };
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | (isDirect ? constants.O_DIRECT : 0));
  } catch (error) {
    return { wrong: [], errors: [nameOf(error)] };
  }
  let state = seed * 7919 + 1;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return state % limit;
  };
  for (let i = 0; i < reads; i++) {
    const offset = random(expected.length);
    const out = new Uint8Array(1 + random(Math.min(70_000, expected.length - offset)));
    try {
      readAll(fd, out, offset);
      if (expected.compare(out, 0, out.length, offset, offset + out.length) !== 0) report.wrong.push(offset);
    } catch (error) {
      report.errors.push(nameOf(error));
    }
  }
  return report;
}

const task: ReaderTask = JSON.parse(process.argv[2] ?? '{}');
process.stdout.write(JSON.stringify(run(task)));
