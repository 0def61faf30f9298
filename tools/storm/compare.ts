/** Whether a repository is what it was, with what a command did to it, or a part of that if it was killed. Pure. */
import type { Effect } from './kill-commands.ts';
import { type LabelState, type RepositoryState, type SessionState, type VolumeState, violated } from './state.ts';

/** How much of its effect a command had. */
export type Outcome = 'none' | 'part' | 'all';

export interface Comparison {
  readonly before: RepositoryState;
  readonly after: RepositoryState;
  readonly effect: Effect;
}

/** @throws Violation if anything else changed */
export function compareStates({ before, after, effect }: Comparison): Outcome {
  const seen = new Set<boolean>(); // whether each part of the effect has happened
  for (const volume of before.values()) {
    const now = after.get(volume.id);
    if (effect.vanishingVolume === volume.id) seen.add(now === undefined);
    else if (now === undefined) violated(`volume ${volume.name} is gone`);
    if (now !== undefined) compareVolume(volume, now, effect, seen);
  }
  const added = [...after.values()].filter(({ id }) => !before.has(id));
  if (added.length > 1 || added.some(({ name }) => name !== effect.appears?.volume))
    violated(`volumes have come up: ${added.map(({ name }) => name).join(', ')}`);
  for (const volume of added) compareNew(volume.sessions, effect, seen);
  const isFirst = effect.appears !== undefined && ![...before.values()].some(({ name }) => name === effect.appears?.volume);
  if (isFirst && added.length === 0) seen.add(false);
  return seen.size === 2 ? 'part' : seen.has(true) ? 'all' : seen.has(false) ? 'none' : 'all';
}

function compareVolume(before: VolumeState, now: VolumeState, effect: Effect, seen: Set<boolean>): void {
  const renames = effect.renames?.volume === before.id ? effect.renames : undefined;
  const isAsBefore = now.name === before.name && now.note === before.note;
  if (renames !== undefined) seen.add(now.name === renames.name && now.note === renames.note);
  if (!isAsBefore && (now.name !== renames?.name || now.note !== renames.note)) violated(`volume ${before.name} became ${now.name} "${now.note}"`);
  for (const session of before.sessions) {
    const found = now.sessions.find(({ id }) => id === session.id);
    const isDoomed = effect.vanish?.includes(session.id) === true;
    if (isDoomed) seen.add(found === undefined);
    if (found === undefined && !isDoomed) violated(`session ${before.name}@${session.id} is gone`);
    if (found !== undefined) compareSession(session, found, effect, seen);
  }
  const added = now.sessions.filter(({ id }) => !before.sessions.some((session) => session.id === id));
  if (effect.appears?.volume === before.name) compareNew(added, effect, seen);
  else if (added.length > 0) violated(`${before.name} has a session that nobody made: ${added[0]?.id}`);
}

function compareSession(before: SessionState, now: SessionState, effect: Effect, seen: Set<boolean>): void {
  if (now.digest !== before.digest) violated(`session ${before.id} has other bytes than before`);
  const relabels = effect.relabels?.session === before.id ? effect.relabels.labels : undefined;
  if (relabels !== undefined) seen.add(isSameLabels(now.labels, relabels));
  if (!isSameLabels(now.labels, before.labels) && (relabels === undefined || !isSameLabels(now.labels, relabels)))
    violated(`session ${before.id} has labels that nobody gave it: ${JSON.stringify(now.labels)}`);
}

function compareNew(added: readonly SessionState[], { appears }: Effect, seen: Set<boolean>): void {
  if (added.length > 1) violated(`one sync made ${added.length} sessions`);
  seen.add(added.length === 1);
  const [session] = added;
  if (session === undefined || appears === undefined) return;
  if (session.digest !== appears.digest) violated(`the new session ${session.id} is not the image that was synced`);
  if (!isSameLabels(session.labels, appears.labels)) violated(`the new session ${session.id} has other labels: ${JSON.stringify(session.labels)}`);
}

function isSameLabels(a: LabelState, b: LabelState): boolean {
  return a.note === b.note && a.isProtected === b.isProtected && JSON.stringify(a.tags) === JSON.stringify(b.tags);
}
