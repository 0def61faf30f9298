/** One at a time for ranges that overlap, all at once for those that do not. */

interface Holder {
  readonly first: number;
  readonly end: number;
  readonly done: Promise<unknown>;
}

export class RangeLocks {
  readonly #holders = new Set<Holder>();

  /** Runs `work` when nobody else is at work on a part of [first, end), in the order of the calls. */
  async run<T>(first: number, end: number, work: () => Promise<T>): Promise<T> {
    const before = [...this.#holders].filter((holder) => holder.first < end && first < holder.end).map(({ done }) => done);
    const result = before.length === 0 ? work() : Promise.all(before).then(work);
    const holder = { first, end, done: result.catch(() => undefined) };
    this.#holders.add(holder);
    try {
      return await result;
    } finally {
      this.#holders.delete(holder);
    }
  }
}
