/** Which bytes of a request were answered: each exactly once, in any order. */
import { protocolError } from '../wire.ts';

export class Coverage {
  readonly #start: number;
  readonly #length: number;
  /** Sorted, apart: [start, end). */
  readonly #parts: { start: number; end: number }[] = [];

  constructor(start: number, length: number) {
    this.#start = start;
    this.#length = length;
  }

  get isComplete(): boolean {
    const first = this.#parts[0];
    return this.#length === 0 || (this.#parts.length === 1 && first !== undefined && first.end - first.start === this.#length);
  }

  /** @throws TimebandError SOURCE_INVALID for bytes that were not asked for, or came before */
  add(start: number, length: number): void {
    const end = start + length;
    if (length === 0 || start < this.#start || end > this.#start + this.#length)
      throw protocolError(`${length} bytes at ${start}, when ${this.#length} at ${this.#start} were asked for`);
    const at = this.#firstEndingAtOrAfter(start);
    const next = this.#parts[at];
    if (next === undefined || end < next.start) this.#parts.splice(at, 0, { start, end });
    else if (end === next.start) next.start = start;
    else if (start === next.end) this.#extend(at, end);
    else throw protocolError(`the bytes at ${start} came twice`);
  }

  #extend(at: number, end: number): void {
    const [part, next] = [this.#parts[at], this.#parts[at + 1]];
    if (part === undefined) return;
    if (next !== undefined && end > next.start) throw protocolError(`the bytes at ${next.start} came twice`);
    part.end = next !== undefined && end === next.start ? next.end : end;
    if (next !== undefined && end === next.start) this.#parts.splice(at + 1, 1);
  }

  #firstEndingAtOrAfter(start: number): number {
    let low = 0;
    let high = this.#parts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#parts[middle]?.end ?? 0) < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
