/** What a prune would do: the rules applied to each volume, then the oldest sessions until there is room. */
import { statfs } from 'node:fs/promises';
import { parseSessionId } from '../../bands/format/session-id.ts';
import type { Catalog } from '../catalog.ts';
import { TakenLinks } from '../deletion/shared-files.ts';
import { DeletionPlanner } from '../deletion/sizes.ts';
import type { Repository } from '../repository.ts';
import { type SessionSummary, summarizeSessions } from '../sessions.ts';
import type { Volume } from '../volume.ts';
import { planMinFree } from './min-free.ts';
import { applyRetention, type RetentionOptions } from './policy.ts';
import type { RetentionRules } from './rules.ts';

export interface PruneRequest {
  /** Undefined: none, everything is kept unless `minFreeBytes` asks for room. */
  readonly rules: RetentionRules | undefined;
  readonly minFreeBytes: number | undefined;
  readonly options: RetentionOptions;
}

export interface PrunedSession {
  readonly volume: Volume;
  readonly id: string;
  readonly timeMs: number;
  readonly isProtected: boolean;
  /** Why its manifest or labels cannot be read; then it is kept, as it may be protected. */
  readonly problem: string | undefined;
  readonly tags: readonly string[];
  readonly action: 'keep' | 'delete';
  readonly reasons: readonly string[];
  /** For one that is deleted: what that frees after those before it; undefined: its index cannot be read. */
  readonly freedBytes: number | undefined;
}

export interface PrunePlan {
  /** By volume, oldest first. */
  readonly sessions: readonly PrunedSession[];
  /** False if all that may be deleted does not make the room that was asked for. */
  readonly hasRoom: boolean;
}

/** @throws TimebandError USAGE (no rule), RECORD_MISSING, IO_ERROR */
export async function planPrune(repository: Repository, volumes: readonly Volume[], request: PruneRequest, catalog?: Catalog): Promise<PrunePlan> {
  const planners = new Map<Volume, DeletionPlanner>();
  const taken = new TakenLinks();
  const sessions: PrunedSession[] = [];
  for (const volume of volumes) {
    const planner = await DeletionPlanner.of(volume, taken);
    planners.set(volume, planner);
    for (const decided of decide(volume, await summarizeSessions(volume, { catalog }), request)) {
      sessions.push(decided.action === 'keep' ? decided : { ...decided, freedBytes: await planner.take(decided.id) });
    }
  }
  return request.minFreeBytes === undefined
    ? { sessions, hasRoom: true }
    : await makeRoom(repository, sessions, { planners, minFreeBytes: request.minFreeBytes });
}

function decide(volume: Volume, summaries: readonly SessionSummary[], { rules, options }: PruneRequest): PrunedSession[] {
  const known = summaries.map(({ session, manifest, labels, problem }) => ({
    volume,
    id: session,
    timeMs: manifest?.startedMs ?? parseSessionId(session) ?? 0,
    tags: labels?.tags ?? [],
    isProtected: problem !== undefined || labels?.isProtected === true, // one that cannot be read may be protected
    problem,
    freedBytes: undefined,
  }));
  if (rules === undefined) return known.map((one) => ({ ...one, action: 'keep', reasons: ['no rule was given'] }));
  const decisions = applyRetention(known, rules, options);
  return known.map((one, i) => ({ ...one, action: decisions[i]?.action ?? 'keep', reasons: decisions[i]?.reasons ?? [] }));
}

async function makeRoom(
  repository: Repository,
  sessions: readonly PrunedSession[],
  { planners, minFreeBytes }: { readonly planners: ReadonlyMap<Volume, DeletionPlanner>; readonly minFreeBytes: number },
): Promise<PrunePlan> {
  const { bavail, bsize } = await statfs(repository.layout.root);
  const freed = sessions.reduce((sum, { freedBytes }) => sum + (freedBytes ?? 0), 0);
  const kept = sessions
    .filter(({ action }) => action === 'keep')
    .map(({ volume, id, timeMs, isProtected }) => ({ volume: volume.id, id, timeMs, isProtected, planner: planners.get(volume) }))
    .sort((a, b) => (a.volume === b.volume ? (a.id < b.id ? -1 : 1) : a.timeMs - b.timeMs));
  const frees = new Map<string, number>();
  const { chosen, isMet } = await planMinFree(kept, {
    freeBytes: bavail * bsize + freed,
    minFreeBytes,
    async freedBytes({ volume, id, planner }) {
      const bytes = (await planner?.take(id)) ?? 0;
      frees.set(`${volume}@${id}`, bytes);
      return bytes;
    },
  });
  const isChosen = new Set(chosen.map(({ volume, id }) => `${volume}@${id}`));
  return {
    hasRoom: isMet,
    sessions: sessions.map((session) => {
      const key = `${session.volume.id}@${session.id}`;
      return isChosen.has(key) ? { ...session, action: 'delete', reasons: ['to make room'], freedBytes: frees.get(key) } : session;
    }),
  };
}
