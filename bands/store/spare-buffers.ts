/** Buffers that are used again: what is allocated anew for each read is freed much later, and counts as memory until then. */

export class SpareBuffers {
  readonly #maxBytes: number;
  readonly #allocate: (sizeBytes: number) => Uint8Array;
  readonly #bySize = new Map<number, Uint8Array[]>();
  #bytes = 0;

  /** @param maxBytes how much may lie here unused */
  constructor(maxBytes: number, allocate: (sizeBytes: number) => Uint8Array = (sizeBytes) => new Uint8Array(sizeBytes)) {
    this.#maxBytes = maxBytes;
    this.#allocate = allocate;
  }

  /** A buffer of exactly that size; its content is whatever it was. */
  take(sizeBytes: number): Uint8Array {
    const spare = this.#bySize.get(sizeBytes)?.pop();
    if (spare === undefined) return this.#allocate(sizeBytes);
    this.#bytes -= sizeBytes;
    return spare;
  }

  /** Takes back what nobody looks at any more. */
  give(buffer: Uint8Array): void {
    if (this.#bytes + buffer.length > this.#maxBytes) return;
    this.#bytes += buffer.length;
    const spares = this.#bySize.get(buffer.length) ?? [];
    spares.push(buffer);
    this.#bySize.set(buffer.length, spares);
  }

  /** The same one turn of the event loop later: readers that awaited the buffer copy from it in the turn in which they get it. */
  giveLater(buffer: Uint8Array): void {
    setImmediate(() => this.give(buffer));
  }
}
