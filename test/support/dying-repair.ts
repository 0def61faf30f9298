/**
 * A process that repairs, or syncs, and kills itself (SIGKILL) when it is about to change the repository for the n-th time:
 * node dying-repair.js repair|sync REPO N [COPY]. Ends with 0 if it came to the end before that.
 */
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { PASSPHRASE } from './workspace.ts';

const promises: Record<string, unknown> = createRequire(import.meta.url)('node:fs/promises');
/** What replaces, removes or makes anything durable: between two of these a kill leaves what it finds. */
const CHANGES = ['rename', 'rm', 'mkdir', 'utimes'];

function dieBefore(n: number): void {
  let count = 0;
  for (const name of CHANGES) {
    const real = promises[name];
    if (typeof real !== 'function') throw new TypeError(`${name}: no function`);
    promises[name] = (...args: unknown[]): unknown => {
      if (++count === n) process.kill(process.pid, 'SIGKILL');
      return Reflect.apply(real, promises, args);
    };
  }
  syncBuiltinESMExports();
}

if (process.argv[1]?.endsWith('dying-repair.js') === true) {
  const [what, root = '', n, copyRoot] = process.argv.slice(2);
  dieBefore(Number(n));
  const { BandPool } = await import('../../bands/workers/band-pool.ts');
  const { Repository } = await import('../../src/repository.ts');
  const { repairRepository } = await import('../../src/repair/repair.ts');
  const { syncVolume } = await import('../../src/sync/sync.ts');
  await using pool = new BandPool(1);
  using repository = await Repository.open(root, { passphrase: PASSPHRASE });
  using copy = copyRoot === undefined ? undefined : await Repository.open(copyRoot, { passphrase: PASSPHRASE });
  if (what === 'sync') await syncVolume(repository, { name: 'disk' }, { pool });
  else await repairRepository(repository, { pool, copy, withData: true });
}
