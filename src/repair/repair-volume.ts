/** Mending the record of a volume: without it, no session of it can be opened. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes, toHex } from '../../bands/format/bytes.ts';
import type { KeyDomain } from '../../bands/format/keys.ts';
import { manifestCodec } from '../../bands/format/manifest.ts';
import { openRecord } from '../../bands/format/record.ts';
import { parseSessionId, SESSION_ID_PATTERN } from '../../bands/format/session-id.ts';
import type { VolumeRecord } from '../../bands/format/volume-record.ts';
import { SESSION_FILES } from '../../bands/store/session-directory.ts';
import { volumeLayout } from '../layout.ts';
import type { DamagedVolume, Repository } from '../repository.ts';
import { isLost } from './band-files.ts';
import { copied, firstProven, readRemains, reframed } from './record-candidates.ts';
import type { RepairLog } from './repair-log.ts';

/** Digits of the id in the name of a volume whose name is lost. */
const ID_DIGITS = 8;

/** Mends a damaged volume record. A name that is lost is replaced by one that is made up. */
export async function repairVolumeRecord(
  repository: Repository,
  { id, error }: DamagedVolume,
  { copy, log }: { readonly copy: Repository | undefined; readonly log: RepairLog },
): Promise<void> {
  if (!isLost(error)) return;
  const layout = volumeLayout(path.join(repository.layout.volumes, id));
  const copiedFrom = copy === undefined ? undefined : volumeLayout(path.join(copy.layout.volumes, id)).record;
  const names = new Set((await repository.listVolumes()).volumes.map(({ name }) => name));
  let record: VolumeRecord | undefined;
  const remains = await readRemains(layout.record);
  const found = await firstProven([() => reframed(remains), () => copied(copiedFrom)], (bytes) => {
    record = openOrUndefined(() => repository.openVolumeRecord(id, bytes));
    return record !== undefined && !names.has(record.name);
  });
  if (found === undefined) record = await deriveRecord(repository, id, layout.sessions);
  if (record === undefined || names.has(record.name)) return;
  const mended = record;
  const how = found?.how ?? `its name and note are lost; it is called "${mended.name}" now ("timeband rename" changes that)`;
  await log.act({ volume: mended.name }, { what: 'volume record', how, isLoss: found === undefined }, () =>
    repository.replaceVolumeRecord(id, mended),
  );
}

/** Band size and padding stand in every manifest. */
async function deriveRecord(repository: Repository, id: string, sessions: string): Promise<VolumeRecord | undefined> {
  const { keys, volumeId } = repository.volumeContext(id);
  const ids = (await readdir(sessions).catch(() => [])).filter((name) => SESSION_ID_PATTERN.test(name)).sort();
  for (const sessionId of ids) {
    const sealed = await readRemains(path.join(sessions, sessionId, SESSION_FILES.manifest));
    const manifest =
      sealed === undefined
        ? undefined
        : openOrUndefined(() => manifestCodec.decode(openRecord(keys.recordsKey, { kind: 'manifest', volumeId, at: sessionId }, sealed)));
    if (manifest === undefined) continue;
    const { bandBytes, padding, domainId } = manifest;
    const domain = domainId === undefined ? undefined : await findDomain(repository, domainId);
    if (domainId !== undefined && domain === undefined) return undefined;
    return { name: `recovered-${id.slice(0, ID_DIGITS)}`, bandBytes, createdMs: parseSessionId(ids[0] ?? '') ?? 0, note: '', padding, domain };
  }
  return undefined;
}

/** The domain of that id; its name, if another volume has it. */
async function findDomain(repository: Repository, id: Uint8Array): Promise<KeyDomain | undefined> {
  const { volumes } = await repository.listVolumes();
  const known = volumes.flatMap(({ record }) => record.domain ?? []).find((domain) => equalBytes(domain.id, id));
  return known ?? repository.lostDomain(`recovered-${toHex(id).slice(0, ID_DIGITS)}`, id);
}

function openOrUndefined<T>(open: () => T): T | undefined {
  try {
    return open();
  } catch (error) {
    if (error instanceof TimebandError) return undefined;
    throw error;
  }
}
