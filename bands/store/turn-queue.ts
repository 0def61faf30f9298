/**
 * Who does a small piece of work: this thread, or a worker. A lone piece is done here, since handing it over and back takes as
 * long as doing it; of those that wait at the same time, one is done here in each turn of the event loop and workers take others.
 */
export type Doer = 'here' | 'worker';

export class TurnQueue {
  #waiting: ((doer: Doer) => void)[] = [];
  #atWorkers = 0;

  /**
   * Says who does it, when everything that came in this turn is known.
   * @param workers how many pieces may be at workers at a time
   */
  next(workers: number): Promise<Doer> {
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) === 1) setImmediate(() => this.#deal(workers));
    });
  }

  /** A worker has done a piece. */
  done(): void {
    this.#atWorkers--;
  }

  #deal(workers: number): void {
    const forWorkers = this.#waiting.splice(0, Math.max(0, Math.min(this.#waiting.length - 1, workers - this.#atWorkers)));
    this.#atWorkers += forWorkers.length;
    for (const give of forWorkers) give('worker');
    this.#waiting.shift()?.('here');
    if (this.#waiting.length > 0) setImmediate(() => this.#deal(workers));
  }
}
