/** Lets any number of writes through, or one piece of work that needs them all to stand still. */
export class WriteGate {
  #running = 0;
  /** Settles when the gate opens again; undefined: it is open. */
  #closed: Promise<void> | undefined;
  #whenIdle: () => void = () => undefined;

  /** Runs `work` while the gate is open. */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed !== undefined) await this.#closed;
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
      if (this.#running === 0) this.#whenIdle();
    }
  }

  /** Closes the gate, waits for those who are through, runs `work`, and opens it again. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed !== undefined) await this.#closed;
    let open: () => void = () => undefined;
    this.#closed = new Promise((resolve) => {
      open = resolve;
    });
    try {
      if (this.#running > 0)
        await new Promise<void>((resolve) => {
          this.#whenIdle = resolve;
        });
      return await work();
    } finally {
      this.#closed = undefined;
      this.#whenIdle = () => undefined;
      open();
    }
  }
}
