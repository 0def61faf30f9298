/** Which part of a repository a check looks at, and in which order, where it cannot be all of it. */
import { TimebandError } from '../../bands/errors.ts';
import type { Labels } from '../../bands/format/labels.ts';

/** A share of the band files, chosen anew each time; or one of several parts that together are all of them. */
export type Subset = { readonly kind: 'random'; readonly share: number } | { readonly kind: 'part'; readonly part: number; readonly parts: number };

const PERCENT = /^(\d{1,3}(?:\.\d{1,6})?)%$/;
const PART = /^(\d{1,6})\/(\d{1,6})$/;
/** Hex digits of a name that choose its part: what fits into a number exactly. */
const NAME_DIGITS = 13;

/** Parses `5%` or `2/7`; undefined is all of it (`100%`, `1/1`). @throws TimebandError USAGE */
export function parseSubset(text: string): Subset | undefined {
  const share = Number(PERCENT.exec(text)?.[1] ?? Number.NaN) / 100;
  if (share > 0 && share <= 1) return share === 1 ? undefined : { kind: 'random', share };
  const [part, parts] = (PART.exec(text)?.slice(1) ?? []).map(Number);
  if (part !== undefined && parts !== undefined && part >= 1 && part <= parts) return parts === 1 ? undefined : { kind: 'part', part, parts };
  throw new TimebandError(`"${text}" is no part of a repository; write 5% (chosen at random), or 2/7 (the second of seven parts).`, {
    code: 'USAGE',
  });
}

/** Whether a band file is in the subset. The names of band files look random, and all versions of a band have the same. */
export function isInSubset(subset: Subset | undefined, name: string): boolean {
  if (subset === undefined) return true;
  if (subset.kind === 'random') return Math.random() < subset.share;
  return Number.parseInt(name.slice(0, NAME_DIGITS), 16) % subset.parts === subset.part - 1;
}

/** A session as far as its turn depends on it. */
export interface Candidate {
  readonly sessionId: string;
  readonly verified: Labels['verified'];
}

/**
 * The order for a check that may not come to its end: sessions that were never found whole first, the newest of them
 * before the others, then those that were found whole longest ago. Where data is read, having found the structure
 * whole does not count.
 */
export function byUrgency<T extends Candidate>(sessions: readonly T[], withData: boolean): T[] {
  const lastMs = ({ verified }: Candidate): number => (verified === undefined || (withData && !verified.withData) ? -1 : verified.atMs);
  return sessions.toSorted((a, b) => lastMs(a) - lastMs(b) || (a.sessionId < b.sessionId ? 1 : -1));
}
