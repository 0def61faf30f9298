/**
 * What a damaged record may have been. A record that another one pins by its digest is proven by that, wherever its bytes come
 * from: even sealed again from what it says, if the nonce in the damaged file is whole, for then the same bytes come out.
 */
import { frameRecord, RECORD_OVERHEAD_BYTES, type RecordPlace, readRecordNonce, sealRecord } from '../../bands/format/record.ts';
import { readRegularFile, statIfPresent } from '../../bands/store/files.ts';
import type { VolumeContext } from '../../bands/store/session-directory.ts';
import { isLost } from './band-files.ts';

const MAX_RECORD_BYTES = 268_435_456;

export interface Candidate {
  readonly bytes: Uint8Array;
  readonly how: string;
}

/** The bytes at `file`, whatever they are; undefined if there are none. @throws TimebandError PERMISSION_DENIED, … */
export async function readRemains(file: string): Promise<Uint8Array | undefined> {
  try {
    if ((await statIfPresent(file))?.isFile() !== true) return undefined;
    return await readRegularFile(file, { maxBytes: MAX_RECORD_BYTES, what: 'record' });
  } catch (error) {
    if (isLost(error)) return undefined;
    throw error;
  }
}

/** The damaged file with its magic bytes and checksum put right. */
export function reframed(remains: Uint8Array | undefined): Candidate[] {
  if (remains === undefined || remains.length < RECORD_OVERHEAD_BYTES) return [];
  return [{ bytes: frameRecord(remains.slice()), how: 'its checksum was put right' }];
}

/** The file at the same place of a second copy of the repository. */
export async function copied(file: string | undefined): Promise<Candidate[]> {
  const bytes = file === undefined ? undefined : await readRemains(file);
  return bytes === undefined ? [] : [{ bytes, how: 'from the other repository' }];
}

/** What it says, sealed with the nonce that the damaged file still has. Only for records whose digest is pinned. */
export function resealed(
  { keys, volumeId }: VolumeContext,
  place: Omit<RecordPlace, 'volumeId'>,
  from: { readonly remains: Uint8Array | undefined; readonly plain: Uint8Array | undefined; readonly how: string },
): Candidate[] {
  const nonce = from.remains === undefined ? undefined : readRecordNonce(from.remains);
  if (nonce === undefined || from.plain === undefined) return [];
  return [{ bytes: sealRecord(keys.recordsKey, { ...place, volumeId }, { nonce, plain: from.plain }), how: from.how }];
}

/** The first of them that is proven. They are made one after the other. */
export async function firstProven(
  makers: readonly (() => Candidate[] | Promise<Candidate[]>)[],
  isProven: (bytes: Uint8Array) => boolean | Promise<boolean>,
): Promise<Candidate | undefined> {
  for (const make of makers) for (const candidate of await make()) if (await isProven(candidate.bytes)) return candidate;
  return undefined;
}
