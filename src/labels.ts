/** Changing what may change of a session after it was made: tags, note, protection. No band is touched. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { checkTag, type Labels, labelsCodec } from '../bands/format/labels.ts';
import { RECORD_NONCE_BYTES, sealRecord } from '../bands/format/record.ts';
import { replaceFile } from '../bands/store/files.ts';
import { SESSION_FILES } from '../bands/store/session-directory.ts';
import type { Lock } from './locks.ts';
import type { Repository } from './repository.ts';
import type { Volume } from './volume.ts';

/** A lock that is held for moments. */
const LABELS_LOCK_ATTEMPTS = 100;

interface LabelledSession {
  readonly volume: Volume;
  readonly sessionId: string;
}

/** Replaces a session's labels by what `change` makes of them. @throws TimebandError SESSION_NOT_FOUND, LOCKED, RECORD_CORRUPT, NO_SPACE */
export async function changeLabels(repository: Repository, session: LabelledSession, change: (labels: Labels) => Labels): Promise<Labels> {
  await using _lock = await lockLabels(repository, session);
  const changed = change(await session.volume.readLabels(session.sessionId));
  const after: Labels = { ...changed, tags: [...new Set(changed.tags)].sort() };
  for (const tag of after.tags) checkTag(tag);
  await writeLabels(session, after);
  return after;
}

/** Puts labels into the place of ones that cannot be read. @throws TimebandError LOCKED, NO_SPACE */
export async function replaceLabels(repository: Repository, session: LabelledSession, labels: Labels): Promise<void> {
  await using _lock = await lockLabels(repository, session);
  await writeLabels(session, labels);
}

/** Keeps the labels of a volume's sessions as they are, while it is held. @throws TimebandError LOCKED */
export async function lockLabels(repository: Repository, { volume }: Pick<LabelledSession, 'volume'>): Promise<Lock> {
  return await repository.lock({
    scope: `labels-${volume.id}`,
    what: `the labels of volume "${volume.name}"`,
    command: 'label',
    attempts: LABELS_LOCK_ATTEMPTS,
  });
}

async function writeLabels({ volume, sessionId }: LabelledSession, labels: Labels): Promise<void> {
  const { keys, volumeId } = volume.context;
  const nonce = randomBytes(RECORD_NONCE_BYTES);
  const sealed = sealRecord(keys.recordsKey, { kind: 'labels', at: sessionId, volumeId }, { nonce, plain: labelsCodec.encode(labels) });
  await replaceFile(path.join(volume.sessionPath(sessionId), SESSION_FILES.labels), sealed);
}
