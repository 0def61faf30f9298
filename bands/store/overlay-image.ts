/** An image that can be written over one that cannot: what is written goes to an overlay, in blocks of 4 KiB. */
import { OVERLAY_BLOCK_BYTES as BLOCK } from '../format/overlay.ts';
import { createCursor, type ImageExtent, type ReadableImage, type ReadCursor, type WritableImage } from './image.ts';
import type { OverlayBlocks } from './overlay-blocks.ts';
import { RangeLocks } from './range-locks.ts';
import { SpareBuffers } from './spare-buffers.ts';

/** How much is sealed or opened at once. */
const STEP_BYTES = 262_144;

export class OverlayImage implements WritableImage {
  readonly #base: ReadableImage;
  readonly #blocks: OverlayBlocks;
  /** Two writes into one block would each copy up what the other has not written yet. */
  readonly #locks = new RangeLocks();
  readonly #buffers = new SpareBuffers(8 * STEP_BYTES);

  constructor(base: ReadableImage, blocks: OverlayBlocks) {
    this.#base = base;
    this.#blocks = blocks;
  }

  get sizeBytes(): number {
    return this.#base.sizeBytes;
  }

  /** Whether nothing was ever written. */
  get isUnchanged(): boolean {
    return this.#blocks.map.isEmpty;
  }

  async read(out: Uint8Array, offset: number, cursor: ReadCursor = createCursor()): Promise<void> {
    this.#checkRange(offset, out.length);
    for (const run of this.#runs(offset, out.length)) {
      const part = out.subarray(run.offset - offset, run.offset - offset + run.length);
      if (run.isOverlay) await this.#readOverlay(part, run.offset);
      else await this.#base.read(part, run.offset, cursor);
    }
  }

  async *extents(offset: number, length: number): AsyncGenerator<ImageExtent> {
    for (const run of this.#runs(offset, length)) {
      if (run.isOverlay || this.#base.extents === undefined) yield { length: run.length, isZero: false };
      else yield* this.#base.extents(run.offset, run.length);
    }
  }

  /** The parts of a range that are in the overlay, and those that are not. */
  *#runs(offset: number, length: number): Generator<{ readonly offset: number; readonly length: number; readonly isOverlay: boolean }> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / BLOCK);
      const isOverlay = this.#blocks.map.has(block);
      const runEnd = Math.min(end, this.#blocks.map.runEnd(block, Math.ceil(end / BLOCK)) * BLOCK);
      yield { offset: at, length: runEnd - at, isOverlay };
      at = runEnd;
    }
  }

  async #readOverlay(out: Uint8Array, offset: number): Promise<void> {
    for (const step of steps(offset, out.length)) {
      await this.#withBuffer(step, async (buffer) => {
        await this.#blocks.read(buffer, step.firstBlock);
        out.set(buffer.subarray(step.start, step.start + step.length), step.position);
      });
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    this.#checkRange(offset, bytes.length);
    for (const step of steps(offset, bytes.length)) {
      await this.#locks.run(step.firstBlock, step.endBlock, () =>
        this.#withBuffer(step, async (buffer) => {
          await this.#copyUp(buffer, step);
          buffer.set(bytes.subarray(step.position, step.position + step.length), step.start);
          await this.#blocks.write(buffer, step.firstBlock);
        }),
      );
    }
  }

  /** Reads those blocks of a step that are written in part. */
  async #copyUp(buffer: Uint8Array, { firstBlock, endBlock, start, length }: Step): Promise<void> {
    const lastBlock = endBlock - 1;
    const isTailPartial = firstBlock * BLOCK + start + length < Math.min(endBlock * BLOCK, this.sizeBytes);
    buffer.subarray(-BLOCK).fill(0); // the end of the image may lie within its last block
    if (start > 0) await this.#readBlock(buffer.subarray(0, BLOCK), firstBlock);
    if (isTailPartial && !(start > 0 && lastBlock === firstBlock)) await this.#readBlock(buffer.subarray(-BLOCK), lastBlock);
  }

  async #readBlock(out: Uint8Array, block: number): Promise<void> {
    const offset = block * BLOCK;
    await this.read(out.subarray(0, Math.min(BLOCK, this.sizeBytes - offset)), offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#checkRange(offset, length);
    const end = offset + length;
    const firstWhole = Math.ceil(offset / BLOCK) * BLOCK;
    const endWhole = end === this.sizeBytes ? Math.ceil(end / BLOCK) : Math.floor(end / BLOCK);
    if (endWhole * BLOCK <= firstWhole) return await this.write(new Uint8Array(length), offset);
    await this.write(new Uint8Array(firstWhole - offset), offset);
    await this.#locks.run(firstWhole / BLOCK, endWhole, () => this.#blocks.zero(firstWhole / BLOCK, endWhole));
    if (endWhole * BLOCK < end) await this.write(new Uint8Array(end - endWhole * BLOCK), endWhole * BLOCK);
  }

  async flush(): Promise<void> {
    await this.#blocks.flush();
  }

  async #withBuffer(step: Step, use: (buffer: Uint8Array) => Promise<void>): Promise<void> {
    const buffer = this.#buffers.take(STEP_BYTES);
    try {
      await use(buffer.subarray(0, (step.endBlock - step.firstBlock) * BLOCK));
    } finally {
      this.#buffers.give(buffer);
    }
  }

  #checkRange(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.sizeBytes) throw new RangeError('offset: the range is not within the image');
  }
}

/** The part of a range that lies in a few whole blocks. */
interface Step {
  readonly firstBlock: number;
  readonly endBlock: number;
  /** Where the part begins within the first block. */
  readonly start: number;
  readonly length: number;
  /** Where the part begins within the range. */
  readonly position: number;
}

function* steps(offset: number, length: number): Generator<Step> {
  for (let position = 0; position < length; ) {
    const firstBlock = Math.floor((offset + position) / BLOCK);
    const start = offset + position - firstBlock * BLOCK;
    const part = Math.min(STEP_BYTES - start, length - position);
    yield { firstBlock, endBlock: Math.ceil((offset + position + part) / BLOCK), start, length: part, position };
    position += part;
  }
}
