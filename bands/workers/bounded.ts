/** Bounded concurrency over a sequence. */

/**
 * Runs `run` on each item, at most `limit` at a time, in order of start. After a failure nothing new is started; what
 * is under way is waited for, then the first error is thrown: nobody goes on working on files behind the caller's back.
 */
export async function forEachBounded<T>(items: Iterable<T> | AsyncIterable<T>, limit: number, run: (item: T) => Promise<void>): Promise<void> {
  const running = new Set<Promise<void>>();
  const failures: unknown[] = [];
  for await (const item of items) {
    if (failures.length > 0) break;
    const task: Promise<void> = run(item)
      .catch((error: unknown) => {
        failures.push(error);
      })
      .finally(() => running.delete(task));
    running.add(task);
    if (running.size >= limit) await Promise.race(running);
  }
  await Promise.all(running);
  if (failures.length > 0) throw failures[0];
}
