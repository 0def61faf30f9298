/** How much of one client's work may be under way at once: so many requests, of so many bytes together. */

export class Budget {
  readonly #maxRequests: number;
  readonly #maxBytes: number;
  #requests = 0;
  #bytes = 0;
  #wake: () => void = () => undefined;

  constructor(maxRequests: number, maxBytes: number) {
    this.#maxRequests = maxRequests;
    this.#maxBytes = maxBytes;
  }

  /** Waits until there is room; what is larger than all of it has it alone. One call at a time. */
  async take(bytes: number): Promise<void> {
    while (this.#requests >= this.#maxRequests || (this.#requests > 0 && this.#bytes + bytes > this.#maxBytes)) await this.#change();
    this.#requests++;
    this.#bytes += bytes;
  }

  give(bytes: number): void {
    this.#requests--;
    this.#bytes -= bytes;
    this.#wake();
  }

  /** Waits until nothing is under way. */
  async rest(): Promise<void> {
    while (this.#requests > 0) await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
