/**
 * Keeps libfuse's threads alive. libfuse starts a thread for each request that finds none idle, and ends one that would be the
 * eleventh idle; fuse-native never frees what it holds for a thread (some KiB, and a handle that slows the event loop down), so
 * many readers past the page cache would leak it thousands of times a minute. Answers that would leave more threads idle are held
 * back until more requests have come, or for a moment if none come.
 */

/** libfuse keeps ten; one more may have been started and have had no request yet. */
const MAX_IDLE = 9;
const WAIT_MS = 5;

export class ReplyPacer {
  /** Grows by one with each thread that asks for something for the first time. */
  readonly #started: { readonly size: number };
  /** Threads that have ended, as far as is known. */
  #ended = 0;
  #open = 0;
  readonly #held: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** @param started the threads that fuse-native knows of */
  constructor(started: { readonly size: number }) {
    this.#started = started;
  }

  /** A request has come. */
  begin(): void {
    this.#open++;
    if (this.#held.length > 0) this.#release();
  }

  /** Sends an answer, now or a little later. */
  end(send: () => void): void {
    if (this.#held.length === 0 && this.#isRoom()) {
      this.#send(send);
      return;
    }
    this.#held.push(send);
    this.#timer ??= setTimeout(() => this.#force(), WAIT_MS);
  }

  /** Whether the thread of one more answer stays. */
  #isRoom(): boolean {
    return this.#started.size - this.#ended - (this.#open - 1) <= MAX_IDLE;
  }

  #send(send: () => void): void {
    this.#open--;
    send();
  }

  #release(): void {
    while (this.#held.length > 0 && this.#isRoom()) this.#send(this.#held.shift() ?? noAnswer);
    if (this.#held.length === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else this.#timer?.refresh();
  }

  /** Nobody else asks: one thread more than libfuse keeps is let go. */
  #force(): void {
    this.#timer = undefined;
    const send = this.#held.shift();
    if (send === undefined) return;
    if (!this.#isRoom()) this.#ended++;
    this.#send(send);
    if (this.#held.length > 0) this.#timer = setTimeout(() => this.#force(), WAIT_MS);
    this.#release();
  }
}

function noAnswer(): void {
  // there always is one
}
