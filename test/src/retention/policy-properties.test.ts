/** What holds for any sessions and any rules, and the calendar rules against a slow, obvious reference. */
import test from 'ava';
import fc from 'fast-check';
import { utcOffsetOf } from '../../../src/retention/calendar.ts';
import { stepBack } from '../../../src/retention/duration.ts';
import { applyRetention, type RetentionDecision, type RetentionOptions, type RetentionSession } from '../../../src/retention/policy.ts';
import { CALENDAR_RULES, type RetentionRules, UNLIMITED } from '../../../src/retention/rules.ts';
import { keptByCalendar } from './reference.ts';
import { anyCount, anyLimitedRules, anyNow, anyRules, anySessions, keptOf, offsetsOf, ZONES } from './sessions.ts';

interface Scene {
  readonly sessions: readonly RetentionSession[];
  readonly options: RetentionOptions;
}

const scenes: fc.Arbitrary<Scene> = fc
  .record({ sessions: anySessions, timeZone: fc.constantFrom(...ZONES), sinceNewestMs: anyNow })
  .map(({ sessions, timeZone, sinceNewestMs }) => {
    return { sessions, options: { timeZone: offsetsOf(timeZone), nowMs: (sessions.at(-1)?.timeMs ?? Date.UTC(2026)) + sinceNewestMs } };
  });

function keptBy({ sessions, options }: Scene, rules: RetentionRules): Set<number> {
  return new Set(keptOf(applyRetention(sessions, rules, options)));
}

function isSame(one: ReadonlySet<number>, other: ReadonlySet<number>): boolean {
  return one.size === other.size && [...one].every((i) => other.has(i));
}

/** Each rule by itself. */
function single(rules: RetentionRules): RetentionRules[] {
  const { olderThan: _, ...keeping } = rules;
  return Object.entries(keeping)
    .filter(([, value]) => value !== 0 && value !== undefined)
    .map(([name, value]) => ({ [name]: value }));
}

function holds<T extends [unknown, ...unknown[]]>(arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> }, predicate: (...values: T) => boolean): void {
  fc.assert(fc.property(...arbitraries, predicate), { numRuns: 400 });
}

for (const { option, period } of CALENDAR_RULES) {
  test(`${option} keeps what the reference keeps`, (t) => {
    holds([anySessions, anyCount.filter((count) => count > 0), fc.constantFrom(...ZONES)], (sessions, count, timeZone) => {
      const bare = sessions.map((session) => ({ ...session, isProtected: false }));
      const kept = keptBy({ sessions: bare, options: { timeZone: offsetsOf(timeZone), nowMs: Date.UTC(2026) } }, { [option]: count });
      return isSame(kept, keptByCalendar(bare, period, count, timeZone));
    });
    t.pass();
  });
}

test('there is one decision for each session, in order, with a reason', (t) => {
  holds([scenes, anyLimitedRules], ({ sessions, options }, rules) => {
    const decisions = applyRetention(sessions, rules, options);
    return decisions.length === sessions.length && decisions.every(({ id, reasons }, i) => id === sessions[i]?.id && reasons.length > 0);
  });
  t.pass();
});

test('the newest session and protected ones are always kept', (t) => {
  holds([scenes, anyLimitedRules], (scene, rules) => {
    const kept = keptBy(scene, rules);
    return scene.sessions.every(({ isProtected }, i) => kept.has(i) || (!isProtected && i < scene.sessions.length - 1));
  });
  t.pass();
});

test('rules together keep the union of what each of them keeps', (t) => {
  holds([scenes, anyRules], (scene, rules) => {
    const together = keptBy(scene, rules);
    const apart = new Set(single(rules).flatMap((rule) => [...keptBy(scene, rule)]));
    return isSame(together, apart);
  });
  t.pass();
});

test('a limit by age keeps what is younger besides, and deletes nothing else', (t) => {
  holds([scenes, anyLimitedRules], (scene, { olderThan, ...rules }) => {
    const { sessions, options } = scene;
    const [unlimited, limited] = [keptBy(scene, rules), keptBy(scene, { ...rules, olderThan })];
    const beforeMs = olderThan === undefined ? Number.POSITIVE_INFINITY : stepBack(options.nowMs, olderThan, utcOffsetOf(options.timeZone));
    return sessions.every(({ timeMs }, i) => limited.has(i) === (unlimited.has(i) || timeMs >= beforeMs));
  });
  t.pass();
});

test('a session that is kept has exactly the reasons that the single rules have', (t) => {
  holds([scenes, anyRules], ({ sessions, options }, rules) => {
    const apart = single(rules).map((rule) => applyRetention(sessions, rule, options));
    return applyRetention(sessions, rules, options).every(({ action, reasons }, i) => {
      const own = apart.map((decisions) => decisions[i]).filter((decision) => decision?.action === action);
      const expected = new Set(own.flatMap((decision) => decision?.reasons ?? []));
      return new Set(reasons).size === reasons.length && expected.size === reasons.length && reasons.every((reason) => expected.has(reason));
    });
  });
  t.pass();
});

test('the order in which rules and tags are given changes nothing', (t) => {
  const shuffled = anyLimitedRules.chain((rules) =>
    fc.shuffledSubarray(Object.entries(rules), { minLength: Object.keys(rules).length }).map((entries) => ({
      rules,
      other: Object.fromEntries(entries.map(([name, value]) => [name, Array.isArray(value) ? value.toReversed() : value])),
    })),
  );
  holds([scenes, shuffled], ({ sessions, options }, { rules, other }) => {
    const reasonsOf = (decisions: RetentionDecision[]): string => JSON.stringify(decisions);
    return reasonsOf(applyRetention(sessions, rules, options)) === reasonsOf(applyRetention(sessions, other, options));
  });
  t.pass();
});

test('applied again to what was kept, the same rules delete nothing', (t) => {
  holds([scenes, anyLimitedRules], ({ sessions, options }, rules) => {
    const left = sessions.filter((_, i) => keptBy({ sessions, options }, rules).has(i));
    return keptBy({ sessions: left, options }, rules).size === left.length;
  });
  t.pass();
});

test('a larger count keeps the same and perhaps more, up to unlimited', (t) => {
  const options = fc.constantFrom('keepLast' as const, ...CALENDAR_RULES.map(({ option }) => option));
  const counts = fc
    .integer({ min: 1, max: 12 })
    .chain((count) => fc.tuple(fc.constant(count), fc.oneof(fc.integer({ min: count, max: 50 }), fc.constant(UNLIMITED))));
  holds([scenes, anyRules, options, counts], (scene, rules, option, [count, more]) => {
    const kept = keptBy(scene, { ...rules, [option]: more });
    return [...keptBy(scene, { ...rules, [option]: count })].every((i) => kept.has(i));
  });
  t.pass();
});

test('an added rule deletes nothing that was kept', (t) => {
  holds([scenes, anyLimitedRules, anyRules], (scene, rules, others) => {
    const added = Object.fromEntries(Object.entries(others).filter(([name]) => !(name in rules)));
    const kept = keptBy(scene, { ...rules, ...added });
    return [...keptBy(scene, rules)].every((i) => kept.has(i));
  });
  t.pass();
});

/** The same sessions, in the order of their times. */
function withSteadyClock(sessions: readonly RetentionSession[]): RetentionSession[] {
  return sessions.toSorted((a, b) => a.timeMs - b.timeMs).map((session, i) => ({ ...session, id: String(i).padStart(4, '0') }));
}

test('applied after every session, or once at the end, rules leave the same, while clocks go forward', (t) => {
  holds([anySessions, anyLimitedRules], (given, rules) => {
    const sessions = withSteadyClock(given);
    const prune = (some: readonly RetentionSession[]): RetentionSession[] => {
      const kept = keptBy({ sessions: some, options: { timeZone: 'utc', nowMs: some.at(-1)?.timeMs ?? 0 } }, rules);
      return some.filter((_, i) => kept.has(i));
    };
    let left: readonly RetentionSession[] = [];
    for (const session of sessions) left = prune([...left, session]);
    const atOnce = prune(sessions);
    return left.length === atOnce.length && left.every((session, i) => session === atOnce[i]);
  });
  t.pass();
});
