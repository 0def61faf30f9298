/** An image as it was at one instant: bands that were written to since lie in the aside file, all others in the image. */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { type ByteRange, bandRanges } from '../../bands/format/geometry.ts';
import { AsideFile } from './aside-file.ts';
import { TRACKED_BAND_BYTES } from './change-tracker.ts';

/** A part of the image whose old contents lie in the aside file, at `position`. */
export interface AsidePart extends ByteRange {
  readonly position: number;
}

export interface FrozenPointOptions {
  readonly folder: string;
  /** So much may be put aside. */
  readonly limitBytes: number;
  /** The content of a band of the image as it is now. */
  readonly readBand: (band: number) => Promise<Uint8Array>;
}

export class FrozenPoint {
  readonly #aside: AsideFile;
  readonly #readBand: FrozenPointOptions['readBand'];
  /** Bands that are being put aside now. */
  readonly #copies = new Map<number, Promise<void>>();
  /** Why it is of no use any more. */
  #failure: string | undefined;

  private constructor(aside: AsideFile, readBand: FrozenPointOptions['readBand']) {
    this.#aside = aside;
    this.#readBand = readBand;
  }

  static async create({ folder, limitBytes, readBand }: FrozenPointOptions): Promise<FrozenPoint> {
    return new FrozenPoint(await AsideFile.create(folder, limitBytes), readBand);
  }

  get asidePath(): string {
    return this.#aside.path;
  }

  get asideBytes(): number {
    return this.#aside.usedBytes;
  }

  /** Puts what a range holds aside, before it is written to. Never fails: what cannot be kept ends this point, not the write. */
  async keep(offset: number, length: number): Promise<void> {
    for (const { bandIndex } of bandRanges(offset, length, TRACKED_BAND_BYTES)) {
      if (this.#failure !== undefined) return;
      if (this.#aside.positionOf(bandIndex) === undefined) await this.#keepBand(bandIndex);
    }
  }

  async #keepBand(band: number): Promise<void> {
    let copy = this.#copies.get(band);
    if (copy === undefined) {
      copy = this.#copy(band);
      this.#copies.set(band, copy);
    }
    await copy;
    this.#copies.delete(band);
  }

  async #copy(band: number): Promise<void> {
    try {
      await this.#aside.keep(band, await this.#readBand(band));
    } catch (error) {
      this.#failure ??= messageOf(error);
      await this.#aside.remove().catch(() => undefined); // its room is of more use to others; the next one is made anew
    }
  }

  /**
   * What of the ranges was written to since the point was made, until now. What a reader had read before is right
   * wherever this does not name it.
   * @throws TimebandError SOURCE_CHANGED if the old contents could not be kept
   */
  partsWithin({ offset, length }: ByteRange): AsidePart[] {
    this.#check();
    const parts: AsidePart[] = [];
    for (const range of bandRanges(offset, length, TRACKED_BAND_BYTES)) {
      const position = this.#aside.positionOf(range.bandIndex);
      if (position !== undefined) parts.push({ offset: offset + range.position, length: range.length, position: position + range.start });
    }
    return parts;
  }

  #check(): void {
    if (this.#failure === undefined) return;
    throw new TimebandError(
      `the image was written to faster than its state could be kept: ${this.#failure}. No session was made; the writes went on.`,
      {
        code: 'SOURCE_CHANGED',
      },
    );
  }

  async remove(): Promise<void> {
    await Promise.all(this.#copies.values());
    if (this.#failure === undefined) await this.#aside.remove();
  }
}
