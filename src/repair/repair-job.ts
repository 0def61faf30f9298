/** What the steps of repairing one volume share. */
import path from 'node:path';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import type { Catalog } from '../catalog.ts';
import type { Repository } from '../repository.ts';
import type { Volume } from '../volume.ts';
import type { RepairLog } from './repair-log.ts';
import type { Workshop } from './workshop.ts';

export interface RepairJob {
  readonly repository: Repository;
  /** Its lock is held. */
  readonly volume: Volume;
  /** The same volume in a second copy of the repository. */
  readonly copy: Volume | undefined;
  readonly workshop: Workshop;
  readonly pool: BandPool;
  readonly catalog: Catalog | undefined;
  readonly log: RepairLog;
  readonly signal: AbortSignal | undefined;
}

/** The file of a session in the second copy; undefined without one. */
export function inCopy({ copy }: RepairJob, sessionId: string, name: string): string | undefined {
  return copy === undefined ? undefined : path.join(copy.sessionPath(sessionId), name);
}
