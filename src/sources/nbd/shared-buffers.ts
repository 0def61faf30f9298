/** Memory that the main thread fills and workers read, used again and again; there is as much of it as was ever lent at once. */
export class SharedBuffers {
  readonly #free: Uint8Array[] = [];

  /** Lends `length` bytes over a SharedArrayBuffer while `run` runs. Their content is whatever it was. */
  async use<T>(length: number, run: (bytes: Uint8Array) => Promise<T>): Promise<T> {
    const at = this.#free.findIndex((one) => one.length >= length);
    if (at < 0) this.#free.pop(); // one too small makes room for the one that is made
    const buffer = (at < 0 ? undefined : this.#free.splice(at, 1)[0]) ?? new Uint8Array(new SharedArrayBuffer(length));
    try {
      return await run(buffer.subarray(0, length));
    } finally {
      this.#free.push(buffer);
    }
  }
}
