/** `--min-free`: which sessions to delete, oldest first, until enough bytes are free. Pure. README.md, "Retention". */

export interface MinFreeSession {
  /** The volume's id or name: each volume's newest session stays. */
  readonly volume: string;
  readonly id: string;
  /** What must outlive a full disk, too: protected sessions, and whatever else the caller wants to spare. */
  readonly isProtected: boolean;
}

export interface MinFreeGoal<S extends MinFreeSession> {
  /** Bytes that are free now, or will be once what was decided before has been deleted. */
  readonly freeBytes: number;
  readonly minFreeBytes: number;
  /**
   * The bytes that deleting `session` frees after `chosen` were deleted (a band file goes with the last session that has it).
   * Asked once for each session, in the order of choice, and only for sessions that are chosen then: so it may keep count by
   * itself instead of looking at `chosen`.
   */
  readonly freedBytes: (session: S, chosen: readonly S[]) => number | Promise<number>;
}

export interface MinFreePlan<S extends MinFreeSession> {
  /** To delete, in this order. */
  readonly chosen: readonly S[];
  /** Bytes that are free after that. */
  readonly freeBytes: number;
  /** False: all that may be deleted was chosen, and it does not suffice. */
  readonly isMet: boolean;
}

/**
 * Chooses the oldest deletable sessions until `minFreeBytes` are free; none if they are already.
 *
 * `sessions` are those left after the rules, oldest first: of one volume, or of several, merged by age (the last one of each
 * volume is its newest). A session that frees nothing is chosen, too, if it is the next: its bands go with a later one. If
 * the goal cannot be met, the plan still says all that could be deleted, and `isMet` is false: it is for the caller to decide.
 *
 * @throws RangeError for byte counts that are negative or not numbers
 */
export async function planMinFree<S extends MinFreeSession>(sessions: readonly S[], goal: MinFreeGoal<S>): Promise<MinFreePlan<S>> {
  checkBytes('minFreeBytes', goal.minFreeBytes);
  let freeBytes = checkBytes('freeBytes', goal.freeBytes);
  const newest = new Set(new Map(sessions.map((session) => [session.volume, session])).values());
  const chosen: S[] = [];
  for (const session of sessions) {
    if (freeBytes >= goal.minFreeBytes) break;
    if (session.isProtected || newest.has(session)) continue;
    freeBytes += checkBytes('freedBytes', await goal.freedBytes(session, chosen));
    chosen.push(session);
  }
  return { chosen, freeBytes, isMet: freeBytes >= goal.minFreeBytes };
}

function checkBytes(name: string, bytes: number): number {
  if (!(bytes >= 0)) throw new RangeError(`${name}: ${bytes} is not a number of bytes`);
  return bytes;
}
