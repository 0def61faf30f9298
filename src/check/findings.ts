/** What `check` found, in words and as data. */
import { type ErrorCode, isShortage, messageOf, TimebandError } from '../../bands/errors.ts';
import { type ByteRange, mergeRanges } from '../../bands/format/geometry.ts';

/** One thing that is wrong. */
export interface Finding {
  /** The volume's name, or its id where the name cannot be read. */
  readonly volume: string;
  readonly session: string | undefined;
  readonly code: ErrorCode;
  readonly message: string;
  /** The part of the volume that cannot be read because of it. */
  readonly range: ByteRange | undefined;
}

export interface CheckResult {
  /** Sessions that were looked at. */
  readonly sessions: number;
  /** Sessions that there were to look at. */
  readonly plannedSessions: number;
  /** Sessions of which all was looked at, or all of the subset, before time was up. */
  readonly finishedSessions: number;
  /** Band files read; one that several sessions share is read once. */
  readonly bandFiles: number;
  /** Band files that are not in the subset. */
  readonly skippedFiles: number;
  readonly readBytes: number;
  readonly isOutOfTime: boolean;
  /** Sessions that were found whole with all their bands, and have that in their labels now. */
  readonly verified: readonly { readonly volume: string; readonly session: string }[];
  /** Bands that were on a damaged list, and are whole again. */
  readonly clearedBands: number;
  /** What went wrong besides, and is no damage. */
  readonly warnings: readonly string[];
  readonly findings: readonly Finding[];
  readonly durationMs: number;
}

/** What was found. What says nothing of the repository ends the check instead. */
export function finding(where: { readonly volume: string; readonly session?: string }, error: unknown, range?: ByteRange): Finding {
  if (isShortage(error)) throw error;
  const code = error instanceof TimebandError ? error.code : 'IO_ERROR';
  return { volume: where.volume, session: where.session, code, message: messageOf(error), range };
}

/** A damaged session and the byte ranges of it that cannot be read, joined. */
export interface DamagedSession {
  readonly volume: string;
  readonly session: string;
  readonly ranges: readonly ByteRange[];
}

export function damagedSessions(findings: readonly Finding[]): DamagedSession[] {
  const groups = new Map<string, { volume: string; session: string; ranges: ByteRange[] }>();
  for (const { volume, session, range } of findings) {
    if (session === undefined) continue;
    const key = `${volume}@${session}`;
    const group = groups.get(key) ?? { volume, session, ranges: [] };
    if (range !== undefined) group.ranges.push(range);
    groups.set(key, group);
  }
  return [...groups.values()].map((group) => ({ ...group, ranges: mergeRanges(group.ranges.sort((a, b) => a.offset - b.offset)) }));
}
