/** What a copy has to do: which sessions of which volumes are asked for, and which of them are in the other repository already. */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { statIfPresent } from '../../bands/store/files.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { Repository } from '../repository.ts';
import type { Volume } from '../volume.ts';
import { openIfWhole } from './neighbour.ts';

/** A volume, or one session of it as `Volume.resolve` takes it. */
export interface CopyRequest {
  readonly name: string;
  readonly session: string | undefined;
}

export interface VolumePlan {
  readonly source: Volume;
  /** Undefined: it is to be made. */
  readonly target: Volume | undefined;
  /** Sessions that are in the target already, and those to copy, oldest first. */
  readonly present: readonly string[];
  readonly missing: readonly string[];
}

/** @throws TimebandError USAGE if both are one and the same */
export async function requireTwoRepositories(source: Repository, target: Repository): Promise<void> {
  const [a, b] = await Promise.all([source, target].map(({ layout }) => statIfPresent(layout.volumes)));
  if (a === undefined || b === undefined || a.ino !== b.ino || a.dev !== b.dev) return;
  throw new TimebandError(`${target.layout.root} is the repository that is copied from. Name another one with --to.`, {
    code: 'USAGE',
    path: target.layout.root,
  });
}

/** @throws TimebandError VOLUME_NOT_FOUND, SESSION_NOT_FOUND, VOLUME_EXISTS (another volume has the name), TARGET_EXISTS, RECORD_* */
export async function planCopy(source: Repository, target: Repository, requests: readonly CopyRequest[]): Promise<VolumePlan[]> {
  const there = await target.listVolumes();
  const plans: VolumePlan[] = [];
  for (const [volume, ids] of await chooseSessions(source, requests)) {
    const damaged = there.damaged.find(({ id }) => id === volume.id);
    if (damaged !== undefined) throw damaged.error;
    const twin = there.volumes.find(({ id }) => id === volume.id);
    if (twin === undefined) requireFreeName(volume, there.volumes, target);
    else requireSameBands(volume, twin);
    const known = new Set(twin === undefined ? [] : await twin.sessionIds());
    const present = ids.filter((id) => known.has(id));
    if (twin !== undefined) for (const id of present) await requireSameSession(id, { source: volume, target: twin, root: target.layout.root });
    plans.push({ source: volume, target: twin, present, missing: ids.filter((id) => !known.has(id)) });
  }
  return plans;
}

async function chooseSessions(source: Repository, requests: readonly CopyRequest[]): Promise<Map<Volume, string[]>> {
  const volumes = new Map<string, Volume>();
  const chosen = new Map<Volume, Set<string>>();
  for (const { name, session } of requests) {
    const volume = volumes.get(name) ?? (await source.volume(name));
    volumes.set(name, volume);
    const ids = session === undefined ? await volume.sessionIds() : [await volume.resolve(session)];
    chosen.set(volume, new Set([...(chosen.get(volume) ?? []), ...ids]));
  }
  return new Map([...chosen].map(([volume, ids]) => [volume, [...ids].sort()]));
}

function requireFreeName({ name }: Volume, there: readonly Volume[], target: Repository): void {
  if (!there.some((volume) => volume.name === name)) return;
  throw new TimebandError(
    `${target.layout.root} has a volume "${name}" that is not a copy of this one. Nothing was copied. Rename one of the two with "timeband rename", then copy again.`,
    { code: 'VOLUME_EXISTS', path: target.layout.root },
  );
}

function requireSameBands(source: Volume, target: Volume): void {
  if (source.record.bandBytes === target.record.bandBytes) return;
  throw new TimebandError(
    `volume "${source.name}" has bands of ${source.record.bandBytes} bytes, its copy in ${target.layout.root} of ${target.record.bandBytes}: one of the two records was replaced. Nothing was copied.`,
    { code: 'RECORD_CORRUPT', path: target.layout.record },
  );
}

/** A session of the same id that is not the same one is never taken for it. */
async function requireSameSession(id: string, at: { readonly source: Volume; readonly target: Volume; readonly root: string }): Promise<void> {
  const original = await openIfWhole(at.source, id); // a damaged one is not read: check tells of it
  let copy: SessionDirectory;
  try {
    copy = await at.target.openSession(id);
  } catch (cause) {
    if (!(cause instanceof TimebandError)) throw cause;
    throw new TimebandError(
      `session ${at.target.name}@${id} in ${at.root} is damaged: ${messageOf(cause)}. Nothing was copied. Delete it there ("timeband delete"), then copy again.`,
      { code: cause.code, cause },
    );
  }
  if (original === undefined || isSameSession(original, copy)) return;
  throw new TimebandError(
    `session ${at.target.name}@${id} in ${at.root} is another session than the one here. Nothing was copied. Delete one of the two, or copy the other sessions by their ids.`,
    { code: 'TARGET_EXISTS', path: copy.directory },
  );
}

/** The same manifest, or, where it was sealed anew, one that says the same of what does not depend on keys. */
function isSameSession(a: SessionDirectory, b: SessionDirectory): boolean {
  if (equalBytes(a.manifestDigest, b.manifestDigest)) return true;
  return JSON.stringify(whatStays(a)) === JSON.stringify(whatStays(b));
}

function whatStays({ manifest }: SessionDirectory): readonly unknown[] {
  const { sizeBytes, startedMs, finishedMs, source, totals } = manifest;
  return [sizeBytes, startedMs, finishedMs, source.kind, source.location, source.host, totals.bands, totals.zeroBands];
}
