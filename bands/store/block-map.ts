/** Which blocks of a disk are in an overlay: a bit for each, kept in pages that exist only where bits are set. */

/** The bits of one page are the unit that is written. */
export const MAP_PAGE_BYTES = 4096;
const BLOCKS_PER_PAGE = MAP_PAGE_BYTES * 8;

/** A page as it was at one moment. */
export interface MapPage {
  readonly number: number;
  readonly bytes: Uint8Array;
}

export class BlockMap {
  readonly #pages = new Map<number, Uint8Array>();
  readonly #unsaved = new Set<number>();

  /** Takes over a page that was read. */
  load(number: number, bytes: Uint8Array): void {
    this.#pages.set(number, Uint8Array.from(bytes));
  }

  get isEmpty(): boolean {
    return this.#pages.size === 0;
  }

  has(block: number): boolean {
    const page = this.#pages.get(Math.floor(block / BLOCKS_PER_PAGE));
    if (page === undefined) return false;
    const bit = block % BLOCKS_PER_PAGE;
    return ((page[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  /** The end of the run of blocks from `first` on that are all in the overlay or all not, `end` at most. */
  runEnd(first: number, end: number): number {
    const isHere = this.has(first);
    let at = first + 1;
    while (at < end) {
      const isPageAbsent = !this.#pages.has(Math.floor(at / BLOCKS_PER_PAGE));
      if (isPageAbsent && isHere) break;
      if (isPageAbsent) at = Math.min(end, (Math.floor(at / BLOCKS_PER_PAGE) + 1) * BLOCKS_PER_PAGE);
      else if (this.has(at) === isHere) at++;
      else break;
    }
    return at;
  }

  /** Marks the blocks in [first, end). */
  add(first: number, end: number): void {
    for (let block = first; block < end; ) {
      const number = Math.floor(block / BLOCKS_PER_PAGE);
      const pageEnd = Math.min(end, (number + 1) * BLOCKS_PER_PAGE);
      this.#addWithin(number, block % BLOCKS_PER_PAGE, pageEnd - number * BLOCKS_PER_PAGE);
      block = pageEnd;
    }
  }

  #addWithin(number: number, firstBit: number, endBit: number): void {
    const page = this.#pages.get(number) ?? new Uint8Array(MAP_PAGE_BYTES);
    this.#pages.set(number, page);
    for (let bit = firstBit; bit < endBit; ) {
      const isWholeByte = bit % 8 === 0 && bit + 8 <= endBit;
      const mask = isWholeByte ? 0xff : 1 << (bit & 7);
      const old = page[bit >>> 3] ?? 0;
      if ((old & mask) !== mask) {
        page[bit >>> 3] = old | mask;
        this.#unsaved.add(number);
      }
      bit += isWholeByte ? 8 : 1;
    }
  }

  /** Copies of the pages that changed since they were last taken so. */
  takeUnsaved(): MapPage[] {
    const taken = [...this.#unsaved].sort((a, b) => a - b).map((number) => ({ number, bytes: Uint8Array.from(this.#pages.get(number) ?? []) }));
    this.#unsaved.clear();
    return taken;
  }

  /** Says that pages which were taken were not saved after all. */
  giveBack(pages: readonly MapPage[]): void {
    for (const { number } of pages) this.#unsaved.add(number);
  }
}
