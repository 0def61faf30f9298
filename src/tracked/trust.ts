/** Whether what was recorded of a tracked image still holds, or somebody else may have written to it meanwhile. Pure. */
import type { ImageStamp, TrackRecord } from './track-record.ts';

/** The image as it is found. */
export interface FoundImage {
  readonly stamp: ImageStamp;
  readonly sizeBytes: number;
  /** Undefined where the machine does not tell. */
  readonly bootId: string | undefined;
  readonly nowMs: number;
}

const NS_PER_MS = 1_000_000n;
/** A lease never reaches further than this into the future: one that does was taken by another clock. */
export const MAX_LEASE_MS = 1000;

/** Why the record is not to be believed; undefined: it is. */
export function doubtAbout(record: TrackRecord, found: FoundImage): string | undefined {
  const { use } = record;
  if (record.sizeBytes !== found.sizeBytes) return `${record.image} had another size when it was attached the last time`;
  if (use.kind === 'detached') {
    return isSameStamp(use.stamp, found.stamp) ? undefined : `${record.image} was written to while it was not attached (or restored, or moved)`;
  }
  if (found.bootId === undefined || use.bootId !== found.bootId) return `the machine went down while ${record.image} was attached`;
  return doubtAfterKill(record, found);
}

/** The process that served it was killed: what it wrote is marked, and the file's times tell whether anybody wrote later. */
function doubtAfterKill({ image, use, leaseMs }: TrackRecord, { stamp, nowMs }: FoundImage): string | undefined {
  const then = use.stamp;
  if (then.kind === 'device' || stamp.kind === 'device')
    return `the process that served ${image} was killed, and a device does not tell whether others wrote to it since`;
  if (then.ino !== stamp.ino || then.birthNs !== stamp.birthNs) return `${image} is another file than the one that was attached`;
  if (leaseMs > nowMs + MAX_LEASE_MS) return 'the clock was set back since';
  return isWithinLease(stamp, leaseMs) ? undefined : `${image} was written to by others after (or while) the process that served it was killed`;
}

/** Whether all that was done to a file can have been done by whoever holds the lease. */
export function isWithinLease(stamp: ImageStamp, leaseMs: number): boolean {
  if (stamp.kind === 'device') return true; // it has no times
  const untilNs = BigInt(Math.floor(leaseMs)) * NS_PER_MS;
  return BigInt(stamp.mtimeNs) <= untilNs && BigInt(stamp.ctimeNs) <= untilNs;
}

function isSameStamp(a: ImageStamp, b: ImageStamp): boolean {
  if (a.kind === 'file' && b.kind === 'file') return a.ino === b.ino && a.birthNs === b.birthNs && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
  if (a.kind === 'device' && b.kind === 'device')
    return a.device === b.device && a.bootId !== '' && a.bootId === b.bootId && a.sequence === b.sequence && a.sectorsWritten === b.sectorsWritten;
  return false;
}
