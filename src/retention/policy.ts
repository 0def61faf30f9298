/** Retention: which sessions of a volume the user's rules keep, and why. Pure. README.md, "Retention". */
import { type Moment, momentOf, type Period, periodOf, type TimeZone, type UtcOffset, utcOffsetOf } from './calendar.ts';
import { type Duration, parseDuration, stepBack } from './duration.ts';
import { CALENDAR_RULES, checkRules, type RetentionRules, UNLIMITED } from './rules.ts';

/** A session, as far as retention looks at it. */
export interface RetentionSession {
  readonly id: string;
  /**
   * What the clock said when it was made: `manifest.startedMs`, or the id's time if the manifest cannot be read. (After a
   * clock was set back, ids go on from the last one by milliseconds, and tell the order only.)
   */
  readonly timeMs: number;
  readonly tags: readonly string[];
  readonly isProtected: boolean;
}

export interface RetentionOptions {
  readonly nowMs: number;
  /** Where hours, days, weeks, months and years begin. */
  readonly timeZone: TimeZone;
}

export interface RetentionDecision {
  readonly id: string;
  readonly action: 'keep' | 'delete';
  /**
   * For people, never empty. To keep: everything that keeps it, such as `newest`, `protected`, `tag before-upgrade`, `last 3`,
   * `within 30d`, `hourly 2026-11-20T14+01:00`, `daily 2026-11-20`, `weekly 2026-W47`, `monthly 2026-11`, `yearly 2026`,
   * `oldest (monthly is not full yet)`, `time-machine daily 2026-11-20`, `not older than 30d`. To delete: for each rule why it
   * does not keep it, such as `not in the last 3`, `daily 2026-11-20 has a newer session`, `daily is full`, `not within 30d`.
   */
  readonly reasons: readonly string[];
}

/**
 * Decides for each session of ONE volume whether to keep or delete it; the decisions come in the order of the sessions.
 *
 * Give all sessions, oldest to newest, as `Volume.sessionIds()` has them. Their order is their age, whatever their times
 * say: the last one is the newest, and is always kept, like every protected one. A session whose labels cannot be read must
 * be given as protected, since it may be. No sessions give no decisions, after the rules were checked.
 *
 * A session is kept if any rule keeps it; each rule counts for itself, over all sessions (as restic does, while borg's
 * calendar rules pass over what a finer rule has kept). So the order of rules plays no part, a larger count keeps the same
 * and perhaps more, and what was kept once is kept when the same rules are applied again at the same time.
 *
 * Clocks: `keepWithin` and `timeMachine` count back from the newest session's time, so a volume that is no longer backed up
 * loses nothing to time alone; or from now, if that is earlier, so that one session from a clock that runs ahead does not make
 * all others old. A session whose time lies in the future counts as young. `olderThan` counts back from now.
 *
 * @throws TimebandError USAGE if no rule is given (`olderThan` alone is none), for a tag that cannot be one, an unknown zone
 * @throws RangeError for sessions that are not in ascending order of distinct ids, times and counts that are none
 */
export function applyRetention(sessions: readonly RetentionSession[], rules: RetentionRules, options: RetentionOptions): RetentionDecision[] {
  checkRules(rules);
  const timeline = createTimeline(sessions, options);
  const verdicts = [...standingRules(timeline), ...givenRules(timeline, rules), ...ageLimit(timeline, rules, options)];
  return sessions.map(({ id }, i) => {
    const own = verdicts.map((verdict) => verdict(i)).filter((verdict) => verdict !== undefined);
    const keeping = own.filter(({ isKept }) => isKept);
    const decisive = keeping.length > 0 ? keeping : own;
    return { id, action: keeping.length > 0 ? 'keep' : 'delete', reasons: decisive.map(({ reason }) => reason) };
  });
}

interface Verdict {
  readonly isKept: boolean;
  readonly reason: string;
}

/** What one rule says of session `i`; undefined: nothing worth telling. */
type Rule = (i: number) => Verdict | undefined;

interface Timeline {
  readonly sessions: readonly RetentionSession[];
  readonly moments: readonly Moment[];
  readonly utcOffset: UtcOffset;
  /** Where durations are counted back from. */
  readonly referenceMs: number;
}

/** The last time that a session id can hold. */
const MAX_TIME_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

function createTimeline(sessions: readonly RetentionSession[], { nowMs, timeZone }: RetentionOptions): Timeline {
  checkTime('nowMs', nowMs);
  for (const [i, { id, timeMs }] of sessions.entries()) {
    checkTime(`session ${id}: timeMs`, timeMs);
    if (i > 0 && (sessions[i - 1]?.id ?? '') >= id) throw new RangeError(`sessions: ${id} is not after the one before it`);
  }
  const utcOffset = utcOffsetOf(timeZone);
  const moments = sessions.map(({ timeMs }) => momentOf(timeMs, utcOffset));
  return { sessions, moments, utcOffset, referenceMs: Math.min(nowMs, sessions.at(-1)?.timeMs ?? nowMs) };
}

function checkTime(name: string, timeMs: number): void {
  if (!(Math.abs(timeMs) <= MAX_TIME_MS)) throw new RangeError(`${name}: ${timeMs} is not a time`);
}

/** What keeps a session whatever the rules are. */
function standingRules({ sessions }: Timeline): Rule[] {
  return [
    (i) => (i === sessions.length - 1 ? { isKept: true, reason: 'newest' } : undefined),
    (i) => (sessions[i]?.isProtected === true ? { isKept: true, reason: 'protected' } : undefined),
  ];
}

function givenRules(timeline: Timeline, rules: RetentionRules): Rule[] {
  const given: Rule[] = [];
  for (const tag of [...new Set(rules.keepTags)].sort()) given.push(tagRule(timeline, tag));
  if ((rules.keepLast ?? 0) > 0) given.push(lastRule(timeline, rules.keepLast ?? 0));
  if (rules.keepWithin !== undefined) given.push(withinRule(timeline, rules.keepWithin));
  for (const { option, name, period } of CALENDAR_RULES) {
    const count = rules[option] ?? 0;
    if (count > 0) given.push(calendarRule(timeline, { name, period, count }));
  }
  if (rules.timeMachine === true) for (const rule of TIME_MACHINE) given.push(calendarRule(timeline, rule));
  return given;
}

function tagRule({ sessions }: Timeline, tag: string): Rule {
  return (i) => (sessions[i]?.tags.includes(tag) === true ? { isKept: true, reason: `tag ${tag}` } : { isKept: false, reason: `no tag ${tag}` });
}

function lastRule({ sessions }: Timeline, count: number): Rule {
  const name = `last ${count === UNLIMITED ? 'unlimited' : count}`;
  return (i) => (sessions.length - i <= count ? { isKept: true, reason: name } : { isKept: false, reason: `not in the ${name}` });
}

function withinRule({ sessions, referenceMs, utcOffset }: Timeline, duration: Duration): Rule {
  const sinceMs = stepBack(referenceMs, duration, utcOffset);
  const reason = `within ${duration.text}`;
  return (i) => ((sessions[i]?.timeMs ?? 0) >= sinceMs ? { isKept: true, reason } : { isKept: false, reason: `not ${reason}` });
}

interface CalendarRule {
  readonly name: string;
  readonly period: Period;
  readonly count: number;
  /** Only sessions within this count at all. */
  readonly within?: Duration;
}

const TIME_MACHINE: readonly CalendarRule[] = [
  { name: 'time-machine hourly', period: 'hour', count: UNLIMITED, within: parseDuration('24h') },
  { name: 'time-machine daily', period: 'day', count: UNLIMITED, within: parseDuration('1m') },
  { name: 'time-machine weekly', period: 'week', count: UNLIMITED },
];

/**
 * From the newest session back, the first one met of each period is kept, until `count` periods were met. Periods that were
 * met are remembered, since a clock that was set back may lead into one again.
 */
function calendarRule(timeline: Timeline, { name, period, count, within }: CalendarRule): Rule {
  const { moments, referenceMs, utcOffset } = timeline;
  const sinceMs = within === undefined ? Number.NEGATIVE_INFINITY : stepBack(referenceMs, within, utcOffset);
  const met = new Set<string>();
  const verdicts = moments.toReversed().map((moment): Verdict => {
    if (moment.timeMs < sinceMs) return { isKept: false, reason: `${name}: not within ${within?.text}` };
    const key = periodOf(period, moment);
    if (met.has(key)) return { isKept: false, reason: `${name} ${key} has a newer session` };
    if (met.size >= count) return { isKept: false, reason: `${name} is full` };
    met.add(key);
    return { isKept: true, reason: `${name} ${key}` };
  });
  verdicts.reverse();
  if (verdicts[0]?.isKept === false && within === undefined && met.size < count) {
    verdicts[0] = { isKept: true, reason: `oldest (${name} is ${count === UNLIMITED ? 'unlimited' : 'not full yet'})` };
  }
  return (i) => verdicts[i];
}

function ageLimit({ sessions, utcOffset }: Timeline, { olderThan }: RetentionRules, { nowMs }: RetentionOptions): Rule[] {
  if (olderThan === undefined) return [];
  const beforeMs = stepBack(nowMs, olderThan, utcOffset);
  return [(i) => ((sessions[i]?.timeMs ?? 0) >= beforeMs ? { isKept: true, reason: `not older than ${olderThan.text}` } : undefined)];
}
