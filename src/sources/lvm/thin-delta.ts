/**
 * The output of `thin_delta`: which blocks of two thin volumes are mapped, and which of them differ. It has one element a
 * line; what lies between them is mapped in neither volume and reads as zeros in both.
 */
import { TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, mergeRanges, SECTOR_BYTES } from '../../../bands/format/geometry.ts';

export interface ThinDelta {
  /** Where the second volume may differ from the first, sorted and apart. */
  readonly changed: readonly ByteRange[];
  /** Where the second volume has data, sorted and apart. */
  readonly mapped: readonly ByteRange[];
}

export interface ThinDeltaInput {
  readonly oldId: number;
  readonly newId: number;
  /** Of the new volume: what lies behind its end is left out. */
  readonly sizeBytes: number;
}

const CLOSING_LINES = new Set(['</diff>', '</superblock>']);

/** Takes the output line by line, since that of a large pool is large. */
export class ThinDeltaParser {
  readonly #input: ThinDeltaInput;
  readonly #changed: RangeList;
  readonly #mapped: RangeList;
  #blockBytes: number | undefined;
  #isInside = false;
  #isAtEnd = false;
  /** Where the last element ended, in blocks: they come in order. */
  #nextBlock = 0;

  constructor(input: ThinDeltaInput) {
    this.#input = input;
    this.#changed = new RangeList(input.sizeBytes);
    this.#mapped = new RangeList(input.sizeBytes);
  }

  /** @throws TimebandError TOOL_FAILED for a line that is not understood completely */
  push(line: string): void {
    const text = line.trim();
    if (text === '') return;
    const [, name = ''] = /^<(\w+)(?: [^<>]*)?\/?>$/.exec(text) ?? [];
    if (name === 'superblock') this.#startPool(text);
    else if (name === 'diff') this.#startDiff(text);
    else if (name !== '' && this.#isInside) this.#addRange(name, text);
    else if (CLOSING_LINES.has(text)) this.#end(text);
    else throw misunderstood(text);
  }

  /** @throws TimebandError TOOL_FAILED if the output ended too early */
  finish(): ThinDelta {
    if (!this.#isAtEnd) throw misunderstood('it ends too early');
    return { changed: this.#changed.merged(), mapped: this.#mapped.merged() };
  }

  #startPool(text: string): void {
    const sectors = attribute(text, 'data_block_size');
    if (this.#blockBytes !== undefined || sectors <= 0) throw misunderstood(text);
    this.#blockBytes = sectors * SECTOR_BYTES;
  }

  #startDiff(text: string): void {
    const isExpected = attribute(text, 'left') === this.#input.oldId && attribute(text, 'right') === this.#input.newId;
    if (this.#blockBytes === undefined || this.#isInside || this.#isAtEnd || !isExpected) throw misunderstood(text);
    this.#isInside = !text.endsWith('/>');
    this.#isAtEnd = !this.#isInside;
  }

  #addRange(name: string, text: string): void {
    const [begin, length] = [attribute(text, 'begin'), attribute(text, 'length')];
    if (begin < this.#nextBlock || length <= 0) throw misunderstood(text);
    this.#nextBlock = begin + length;
    const range = { offset: begin * (this.#blockBytes ?? 0), length: length * (this.#blockBytes ?? 0) };
    if (name === 'same') this.#mapped.add(range);
    else if (name === 'left_only')
      this.#changed.add(range); // discarded: it reads as zeros now
    else if (name === 'different' || name === 'right_only') {
      this.#changed.add(range);
      this.#mapped.add(range);
    } else throw misunderstood(text);
  }

  #end(text: string): void {
    if (text === '</diff>' && this.#isInside) {
      this.#isInside = false;
      this.#isAtEnd = true;
    } else if (text !== '</superblock>' || !this.#isAtEnd) throw misunderstood(text);
  }
}

/** Ranges in order, cut at the volume's end, neighbours joined. */
class RangeList {
  readonly #sizeBytes: number;
  readonly #ranges: { offset: number; length: number }[] = [];

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
  }

  add({ offset, length }: ByteRange): void {
    const end = Math.min(offset + length, this.#sizeBytes);
    if (end <= offset) return;
    const last = this.#ranges.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += end - offset;
    else this.#ranges.push({ offset, length: end - offset });
  }

  merged(): ByteRange[] {
    return mergeRanges(this.#ranges);
  }
}

function attribute(text: string, name: string): number {
  const value = Number(new RegExp(` ${name}="(\\d+)"`).exec(text)?.[1] ?? Number.NaN);
  if (!Number.isSafeInteger(value)) throw misunderstood(text);
  return value;
}

function misunderstood(text: string): TimebandError {
  return new TimebandError(`the output of thin_delta is not understood: "${text}"`, { code: 'TOOL_FAILED' });
}
