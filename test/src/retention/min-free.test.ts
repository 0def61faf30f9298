/** Which sessions go to make room: the oldest, never the newest, never a protected one, and no more than needed. */
import test from 'ava';
import fc from 'fast-check';
import { type MinFreeGoal, type MinFreeSession, planMinFree } from '../../../src/retention/min-free.ts';

/** A session, and the bands it holds: a band's bytes come free with the last session that holds it. */
interface Banded extends MinFreeSession {
  readonly bands: readonly number[];
}

interface CountedGoal extends MinFreeGoal<Banded> {
  readonly freedBytes: (session: Banded, chosen: readonly Banded[]) => number;
}

const BAND = 100;

function session(id: string, bands: readonly number[], more: Partial<Banded> = {}): Banded {
  return { volume: 'disk', id, bands, isProtected: false, ...more };
}

/** Counts what a deletion frees from who holds what, without memory. */
function goalFor(sessions: readonly Banded[], freeBytes: number, minFreeBytes: number): CountedGoal {
  const freedBytes = (one: Banded, chosen: readonly Banded[]): number => {
    const left = sessions.filter((other) => other !== one && !chosen.includes(other));
    return BAND * one.bands.filter((band) => !left.some((other) => other.volume === one.volume && other.bands.includes(band))).length;
  };
  return { freeBytes, minFreeBytes, freedBytes };
}

const chain = [session('1', [1, 2]), session('2', [2, 3]), session('3', [2, 4]), session('4', [5])];

test('nothing is chosen where enough is free', async (t) => {
  t.deepEqual(await planMinFree(chain, goalFor(chain, 500, 500)), { chosen: [], freeBytes: 500, isMet: true });
  t.deepEqual(await planMinFree([], goalFor([], 0, 0)), { chosen: [], freeBytes: 0, isMet: true });
});

test('the oldest are chosen until the goal is met, counting what only then comes free', async (t) => {
  t.deepEqual(await planMinFree(chain, goalFor(chain, 0, 100)), { chosen: chain.slice(0, 1), freeBytes: 100, isMet: true });
  t.deepEqual(await planMinFree(chain, goalFor(chain, 0, 101)), { chosen: chain.slice(0, 2), freeBytes: 200, isMet: true });
  t.deepEqual(await planMinFree(chain, goalFor(chain, 0, 201)), { chosen: chain.slice(0, 3), freeBytes: 400, isMet: true });
});

test('a goal that cannot be met leaves the newest session, and says so', async (t) => {
  t.deepEqual(await planMinFree(chain, goalFor(chain, 0, 401)), { chosen: chain.slice(0, 3), freeBytes: 400, isMet: false });
});

test('protected sessions are passed over, and hold on to their bands', async (t) => {
  const sessions = chain.map((one) => (one.id === '2' ? { ...one, isProtected: true } : one));
  t.deepEqual(await planMinFree(sessions, goalFor(sessions, 0, 200)), { chosen: [sessions[0], sessions[2]], freeBytes: 200, isMet: true } as never);
});

test('a session that frees nothing goes, too, when it is the next', async (t) => {
  const sessions = [session('1', [1]), session('2', [1]), session('3', [2])];
  t.deepEqual(await planMinFree(sessions, goalFor(sessions, 0, 1)), { chosen: sessions.slice(0, 2), freeBytes: 100, isMet: true });
});

test('of several volumes each keeps its newest session', async (t) => {
  const sessions = [session('1', [1], { volume: 'old' }), session('2', [1]), session('3', [2], { volume: 'other' }), session('3', [2])];
  t.deepEqual((await planMinFree(sessions, goalFor(sessions, 0, 1000))).chosen, [sessions[1]] as never);
});

test('byte counts that are none are a mistake of the caller', async (t) => {
  for (const bytes of [-1, Number.NaN]) {
    await t.throwsAsync(planMinFree(chain, goalFor(chain, bytes, 1)), { instanceOf: RangeError });
    await t.throwsAsync(planMinFree(chain, goalFor(chain, 0, bytes)), { instanceOf: RangeError });
    await t.throwsAsync(planMinFree(chain, { freeBytes: 0, minFreeBytes: 1, freedBytes: async () => bytes }), { instanceOf: RangeError });
  }
});

test('any plan is the shortest run of the oldest deletable sessions, and frees what it says', async (t) => {
  const sessions = fc
    .array(fc.record({ volume: fc.constantFrom('a', 'b'), isProtected: fc.boolean(), bands: fc.uniqueArray(fc.nat(8)) }), { maxLength: 12 })
    .map((all) => all.map((one, i) => session(String(i).padStart(2, '0'), one.bands, one)));
  await fc.assert(
    fc.asyncProperty(sessions, fc.nat(1500), fc.nat(300), async (all, minFreeBytes, freeBytes) => {
      const { freedBytes } = goalFor(all, freeBytes, minFreeBytes);
      const asked: Banded[] = [];
      const plan = await planMinFree(all, {
        freeBytes,
        minFreeBytes,
        freedBytes: (one, chosen) => {
          asked.push(one);
          return freedBytes(one, chosen);
        },
      });
      const newest = new Set(['a', 'b'].map((volume) => all.findLast((one) => one.volume === volume)));
      const deletable = all.filter((one) => !one.isProtected && !newest.has(one));
      const after = (chosen: readonly Banded[]): number => chosen.reduce((sum, one, i) => sum + freedBytes(one, chosen.slice(0, i)), freeBytes);
      const { chosen } = plan;
      t.deepEqual(chosen, deletable.slice(0, chosen.length));
      t.deepEqual(asked, chosen, 'asked once for each that is chosen, in order');
      t.is(plan.freeBytes, after(chosen));
      t.is(plan.isMet, plan.freeBytes >= minFreeBytes);
      t.true(plan.isMet || chosen.length === deletable.length);
      t.true(chosen.length === 0 || after(chosen.slice(0, -1)) < minFreeBytes);
    }),
  );
});
