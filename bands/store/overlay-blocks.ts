/**
 * The blocks of an overlay in its file: sealed, at their places, with a map of those that are there.
 *
 * The map on disk names a block only after the block itself is durable. So after a crash each block is as it was last
 * flushed or later, and one that was never flushed is still the session's.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { ioError, TimebandError } from '../errors.ts';
import { viewOf } from '../format/bytes.ts';
import { OVERLAY_BLOCK_BYTES, OVERLAY_HEADER_BYTES, type OverlayLayout, overlayLayout } from '../format/overlay.ts';
import { isZero } from '../workers/buffers.ts';
import { BlockMap, MAP_PAGE_BYTES, type MapPage } from './block-map.ts';
import { readFully, writeFully } from './files.ts';

const XTS = 'aes-256-xts';
const TWEAK_BYTES = 16;
const LOAD_BYTES = 1_048_576;

export interface OverlayFile {
  readonly handle: FileHandle;
  /** For messages. */
  readonly path: string;
  /** 64 bytes: `deriveOverlayKey`. */
  readonly key: Uint8Array;
  /** Of the image that the overlay lies over. */
  readonly sizeBytes: number;
  /** Gives the room of a range of the file back, which then reads as zeros; absent where the system cannot. */
  readonly punchHole?: ((fd: number, offset: number, length: number) => void) | undefined;
}

export class OverlayBlocks {
  readonly layout: OverlayLayout;
  readonly map: BlockMap = new BlockMap();
  readonly #file: OverlayFile;
  /** Whether blocks that are not in the map are holes: not in a file that a crash may have left, nor after a write that failed. */
  #hasHoles: boolean;
  #flushing: Promise<void> = Promise.resolve();
  #failure: TimebandError | undefined;

  private constructor(file: OverlayFile, hasHoles: boolean) {
    this.layout = overlayLayout(file.sizeBytes);
    this.#file = file;
    this.#hasHoles = hasHoles;
  }

  /** The blocks in a file that was just made: none. */
  static empty(file: OverlayFile): OverlayBlocks {
    return new OverlayBlocks(file, true);
  }

  /** The blocks in a file that was used before. @throws TimebandError IO_ERROR */
  static async load(file: OverlayFile): Promise<OverlayBlocks> {
    const blocks = new OverlayBlocks(file, false);
    const { mapBytes } = blocks.layout;
    const buffer = new Uint8Array(Math.min(LOAD_BYTES, mapBytes));
    for (let at = 0; at < mapBytes; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, mapBytes - at));
      await readFully(file.handle, part, OVERLAY_HEADER_BYTES + at, file.path);
      for (let page = 0; page < part.length; page += MAP_PAGE_BYTES) {
        const bytes = part.subarray(page, page + MAP_PAGE_BYTES);
        if (!isZero(bytes)) blocks.map.load((at + page) / MAP_PAGE_BYTES, bytes);
      }
    }
    return blocks;
  }

  #at(block: number): number {
    return this.layout.dataAt + block * OVERLAY_BLOCK_BYTES;
  }

  /** Reads whole blocks that are in the map. @throws TimebandError IO_ERROR */
  async read(out: Uint8Array, first: number): Promise<void> {
    try {
      await readFully(this.#file.handle, out, this.#at(first), this.#file.path);
    } catch (error) {
      throw ioError(error, 'read the overlay', this.#file.path);
    }
    for (let at = 0; at < out.length; at += OVERLAY_BLOCK_BYTES) {
      const block = out.subarray(at, at + OVERLAY_BLOCK_BYTES);
      if (block[0] === 0 && isZero(block)) continue; // 4 KiB of ciphertext are never all zeros
      block.set(createDecipheriv(XTS, this.#file.key, tweakOf(first + at / OVERLAY_BLOCK_BYTES)).update(block));
    }
  }

  /** Writes whole blocks. @throws TimebandError NO_SPACE, IO_ERROR; a block then holds what it held, or what was to be written */
  async write(plain: Uint8Array, first: number): Promise<void> {
    this.#throwIfFailed();
    const sealed = new Uint8Array(plain.length);
    let start = 0;
    for (let at = 0; at < plain.length; at += OVERLAY_BLOCK_BYTES) {
      const number = first + at / OVERLAY_BLOCK_BYTES;
      const block = plain.subarray(at, at + OVERLAY_BLOCK_BYTES);
      const isHole = block[0] === 0 && isZero(block);
      if (!isHole) sealed.set(createCipheriv(XTS, this.#file.key, tweakOf(number)).update(block), at);
      else if (this.#isUntouched(number)) {
        await this.#put(sealed.subarray(start, at), first + start / OVERLAY_BLOCK_BYTES);
        start = at + OVERLAY_BLOCK_BYTES;
      }
    }
    await this.#put(sealed.subarray(start), first + start / OVERLAY_BLOCK_BYTES);
    this.map.add(first, first + plain.length / OVERLAY_BLOCK_BYTES);
  }

  /** Makes whole blocks zeros. */
  async zero(first: number, end: number): Promise<void> {
    this.#throwIfFailed();
    for (let block = first; block < end; ) {
      const runEnd = this.map.runEnd(block, end);
      if (!this.#isUntouched(block) && !this.#punch(block, runEnd)) await this.#putZeros(block, runEnd);
      this.map.add(block, runEnd);
      block = runEnd;
    }
  }

  /** @returns whether the blocks read as zeros now */
  #punch(first: number, end: number): boolean {
    try {
      this.#file.punchHole?.(this.#file.handle.fd, this.#at(first), (end - first) * OVERLAY_BLOCK_BYTES);
      return this.#file.punchHole !== undefined;
    } catch {
      return false; // a file system without holes
    }
  }

  async #putZeros(first: number, end: number): Promise<void> {
    const blocksAtOnce = LOAD_BYTES / OVERLAY_BLOCK_BYTES;
    const zeros = new Uint8Array(Math.min(LOAD_BYTES, (end - first) * OVERLAY_BLOCK_BYTES));
    for (let block = first; block < end; block += blocksAtOnce)
      await this.#put(zeros.subarray(0, (Math.min(end, block + blocksAtOnce) - block) * OVERLAY_BLOCK_BYTES), block);
  }

  /** Whether nothing was ever written to a block's place. */
  #isUntouched(block: number): boolean {
    return this.#hasHoles && !this.map.has(block);
  }

  async #put(sealed: Uint8Array, first: number): Promise<void> {
    if (sealed.length === 0) return;
    try {
      await writeFully(this.#file.handle, sealed, this.#at(first));
    } catch (error) {
      this.#hasHoles = false;
      throw ioError(error, 'write the overlay', this.#file.path);
    }
  }

  /** Makes everything durable whose write had ended before. @throws TimebandError NO_SPACE, IO_ERROR */
  async flush(): Promise<void> {
    const flush = this.#flushing.then(() => this.#flush());
    this.#flushing = flush.catch(() => undefined);
    await flush;
  }

  async #flush(): Promise<void> {
    this.#throwIfFailed();
    const pages = this.map.takeUnsaved(); // before the blocks: a page must not name one that is written meanwhile
    await this.#sync();
    if (pages.length === 0) return;
    try {
      await this.#save(pages);
    } catch (error) {
      this.map.giveBack(pages);
      throw ioError(error, 'write the map of the overlay', this.#file.path);
    }
    await this.#sync();
  }

  async #save(pages: readonly MapPage[]): Promise<void> {
    for (const { number, bytes } of pages) await writeFully(this.#file.handle, bytes, OVERLAY_HEADER_BYTES + number * MAP_PAGE_BYTES);
  }

  /** After one that failed the system calls the pages clean that it could not write, so no later one would prove anything. */
  async #sync(): Promise<void> {
    try {
      await this.#file.handle.datasync();
    } catch (cause) {
      this.#failure = new TimebandError(
        `the disk of the overlay ${this.#file.path} failed to store it, and what was written since the last flush may be lost. Nothing more is written to it: end what uses it, and look at the disk.`,
        { code: 'IO_ERROR', cause, path: this.#file.path },
      );
      throw this.#failure;
    }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** A block's number as XTS takes it: 128 bits, the lowest byte first. */
function tweakOf(block: number): Uint8Array {
  const tweak = new Uint8Array(TWEAK_BYTES);
  viewOf(tweak).setBigUint64(0, BigInt(block), true);
  return tweak;
}
