/** A client's connection: so many bytes at a time, and answers that have gone when they are said to have. */
import type { Socket } from 'node:net';

export class ClientStream {
  readonly #socket: Socket;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    for (const event of ['readable', 'end', 'close', 'error']) socket.on(event, () => this.#wake());
  }

  /** Exactly `length` bytes; undefined if the client went away before. One call at a time. */
  async read(length: number): Promise<Uint8Array | undefined> {
    if (length === 0) return new Uint8Array(0);
    for (;;) {
      const bytes: Uint8Array | null = this.#socket.read(length);
      if (bytes !== null) return bytes.length === length ? bytes : undefined; // fewer: the last that came
      if (this.#socket.readableEnded || this.#socket.destroyed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Sends parts, with nothing of others between them. Settles when the system has taken them, or the client is gone. */
  write(...parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve) => {
      this.#socket.cork();
      for (const [i, part] of parts.entries()) this.#socket.write(part, i === parts.length - 1 ? () => resolve() : undefined);
      this.#socket.uncork();
    });
  }

  /** Hangs up at once; what was not sent yet is dropped. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** Sends what was written, and closes; a client that does not take it is given so long. */
  async close(timeoutMs: number): Promise<void> {
    if (this.#socket.closed) return;
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    const late = setTimeout(() => this.#socket.destroy(), timeoutMs);
    this.#socket.destroySoon();
    await closed;
    clearTimeout(late);
  }
}
