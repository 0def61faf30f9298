/** The threads of a pool: of one that decodes ahead of readers they make way for the thread that answers, of others they do not. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';

const NICE_AT = 19;

/** How nice each thread of this process is, by its id. */
function niceness(): Map<string, number> {
  return new Map(
    readdirSync('/proc/self/task').map((id) => {
      const stat = readFileSync(`/proc/self/task/${id}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // from the third on
      return [id, Number(fields[NICE_AT - 3])];
    }),
  );
}

/** The ids of threads that are nicer than the first one. */
function nicer(): string[] {
  const all = niceness();
  const own = all.get(String(process.pid)) ?? Number.NaN;
  return [...all].filter(([, value]) => value > own).map(([id]) => id);
}

test.serial('threads that decode ahead of readers are nicer than the others of the process; those of other pools are not', async (t) => {
  const others = niceness();
  const pool = new BandPool(2, { servesReaders: true });
  const deadline = performance.now() + 30_000;
  while (nicer().length < 2 && performance.now() < deadline) await sleep(20);
  const found = nicer();
  await pool.close();
  t.is(found.length, 2);
  t.deepEqual(
    found.filter((id) => others.has(id)),
    [],
    'only its own threads',
  );

  const plain = new BandPool(1);
  await t.throwsAsync(plain.run('checkCrc', { file: '/nonexistent' }), { code: 'IO_ERROR' });
  t.deepEqual(nicer(), []);
  await plain.close();
});

test.serial('a pool that is closed before its threads are wanted starts none, and runs nothing', async (t) => {
  const threads = niceness().size;
  const pool = new BandPool(4, { servesReaders: true });
  await pool.close();
  await t.throwsAsync(pool.run('checkCrc', { file: '/nonexistent' }), { message: /closed/ });
  await sleep(1500);
  t.true(niceness().size < threads + 4);
  t.deepEqual(nicer(), []);
});
