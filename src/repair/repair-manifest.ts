/** Mending a session's manifest and its labels. */
import path from 'node:path';
import { nodePrimitives } from '../../bands/crypto/node-primitives.ts';
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { type Labels, labelsCodec, NO_LABELS } from '../../bands/format/labels.ts';
import { openRecord } from '../../bands/format/record.ts';
import { createDirectory, writeNewFile } from '../../bands/store/files.ts';
import { SESSION_FILES, SessionDirectory } from '../../bands/store/session-directory.ts';
import { replaceLabels } from '../labels.ts';
import { isLost } from './band-files.ts';
import { copied, firstProven, readRemains, reframed, resealed } from './record-candidates.ts';
import { inCopy, type RepairJob } from './repair-job.ts';

/** Mends the manifest, if it is damaged and can be had back. */
export async function repairManifest(job: RepairJob, sessionId: string): Promise<void> {
  const { volume, workshop, log } = job;
  try {
    await volume.openSession(sessionId);
    return;
  } catch (error) {
    if (!isLost(error)) throw error;
  }
  const file = path.join(volume.sessionPath(sessionId), SESSION_FILES.manifest);
  const remains = await readRemains(file);
  const pin = await pinnedDigest(job, sessionId);
  const remembered = pin === undefined ? undefined : await job.catalog?.manifest(volume.id, sessionId);
  const place = { kind: 'manifest', at: sessionId } as const;
  const found = await firstProven(
    [
      () => reframed(remains),
      () => copied(inCopy(job, sessionId, SESSION_FILES.manifest)),
      () => resealed(volume.context, place, { remains, plain: remembered, how: 'from what the catalog remembers of it' }),
    ],
    async (bytes) => {
      if (pin !== undefined && !equalBytes(nodePrimitives.sha256(bytes), pin)) return false;
      return await opens(job, await tryOut(job, sessionId, bytes));
    },
  );
  if (found === undefined) return;
  const made = await tryOut(job, sessionId, found.bytes);
  await workshop.install(path.join(made, SESSION_FILES.manifest), file);
  log.note({ volume: volume.name, session: sessionId }, 'manifest', found.how);
}

/** Makes a folder, named like the session, that holds a manifest to be tried. */
async function tryOut({ workshop }: RepairJob, sessionId: string, bytes: Uint8Array): Promise<string> {
  const parent = workshop.newPath();
  const folder = path.join(parent, sessionId);
  for (const one of [parent, folder]) await createDirectory(one);
  await writeNewFile(path.join(folder, SESSION_FILES.manifest), bytes);
  return folder;
}

async function opens({ volume }: RepairJob, folder: string): Promise<boolean> {
  try {
    await SessionDirectory.open(folder, volume.context);
    return true;
  } catch (error) {
    if (error instanceof TimebandError) return false;
    throw error;
  }
}

/** The digest that its manifest must have, by a later session that was made from it, or by what this machine has seen. */
async function pinnedDigest({ volume, catalog }: RepairJob, sessionId: string): Promise<Uint8Array | undefined> {
  for (const later of (await volume.sessionIds()).filter((id) => id > sessionId)) {
    const base = (await volume.openSession(later).catch(() => undefined))?.manifest.base;
    if (base?.sessionId === sessionId) return base.manifestDigest;
  }
  const newest = await catalog?.newest(volume.id);
  return newest?.sessionId === sessionId ? newest.manifestDigest : undefined;
}

/** Labels that are lost: nothing is deleted by a rule because its tag or its protection could not be read. */
const LOST_LABELS: Labels = { ...NO_LABELS, isProtected: true };

/** Mends damaged labels, or replaces them by ones that protect the session. */
export async function repairLabels(job: RepairJob, sessionId: string): Promise<void> {
  const { repository, volume, log } = job;
  try {
    await volume.readLabels(sessionId);
    return;
  } catch (error) {
    if (!isLost(error)) throw error;
  }
  const remains = await readRemains(path.join(volume.sessionPath(sessionId), SESSION_FILES.labels));
  let labels = LOST_LABELS;
  const found = await firstProven([() => reframed(remains), () => copied(inCopy(job, sessionId, SESSION_FILES.labels))], (bytes) => {
    const read = openLabels(job, sessionId, bytes);
    labels = read ?? labels;
    return read !== undefined;
  });
  const how = found?.how ?? 'tags and note are lost; the session is protected now, so that no rule deletes it';
  const isLoss = found === undefined;
  await log.act({ volume: volume.name, session: sessionId }, { what: 'labels', how, isLoss }, () =>
    replaceLabels(repository, { volume, sessionId }, labels),
  );
}

function openLabels({ volume }: RepairJob, sessionId: string, bytes: Uint8Array): Labels | undefined {
  try {
    const { keys, volumeId } = volume.context;
    return labelsCodec.decode(openRecord(keys.recordsKey, { kind: 'labels', volumeId, at: sessionId }, bytes));
  } catch (error) {
    if (error instanceof TimebandError) return undefined;
    throw error;
  }
}
