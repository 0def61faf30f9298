/** What is known before the first band of a session is read: its base, what may have changed, what it takes. */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { DEFAULT_BAND_BYTES } from '../../bands/format/geometry.ts';
import { nextSessionId } from '../../bands/format/session-id.ts';
import type { SessionDirectory, VolumeContext } from '../../bands/store/session-directory.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import type { Repository } from '../repository.ts';
import type { DataMap } from '../sources/data-map.ts';
import type { ChangeSet, SourceView } from '../sources/source.ts';
import type { Volume } from '../volume.ts';
import { tokenOf } from './commit.ts';
import { type Healing, healFromSource } from './heal.ts';
import { measureKept } from './incoming.ts';
import { ownerOf } from './location.ts';
import { type ReadScope, readScope } from './read-scope.ts';
import type { SyncEnvironment, SyncOptions, UserChanges } from './request.ts';
import { checkRollback } from './rollback.ts';
import { SharedBands } from './shared-bands.ts';
import { SessionRoom, type SpacePlace } from './space.ts';

/** Below so many bands to read, their holes are read, too: to find them would take longer. */
const FEW_BANDS = 64;
/** The folder in incoming/ that a sync writes to, so that the next one finds what an interrupted one stored. */
export const INCOMING_NAME = 'sync';

export interface Job {
  readonly options: SyncOptions;
  readonly environment: SyncEnvironment;
  readonly view: SourceView;
  /** Undefined in a dry run of a volume that does not exist yet. */
  readonly volume: Volume | undefined;
  /** Of opening the source. */
  readonly warnings: readonly string[];
}

export interface PooledJob extends Job {
  readonly pool: BandPool;
}

/** What is known before the first band is read for the session. */
export interface Plan {
  readonly base: SessionDirectory | undefined;
  readonly context: VolumeContext;
  readonly scope: ReadScope;
  /** Where the source's data is, as far as it is worth asking; undefined: bands are read whole. */
  readonly dataMap: DataMap | undefined;
  readonly room: SessionRoom;
  readonly sessionId: string;
  readonly startedMs: number;
  readonly healing: Healing;
  /** What the volumes of the key domain hold; undefined: the volume shares with none. */
  readonly shared: SharedBands | undefined;
  readonly warnings: string[];
}

export function placeOf({ layout }: Repository, { name }: SyncOptions): SpacePlace {
  return { volume: name, directory: layout.root };
}

export async function makePlan(repository: Repository, job: PooledJob): Promise<Plan> {
  const { options, environment, view, volume } = job;
  const startedMs = (environment.nowMs ?? Date.now)();
  const base = await openBase(job);
  const context =
    volume?.context ??
    repository.temporaryContext({ bandBytes: options.bandBytes ?? DEFAULT_BAND_BYTES, padding: options.padding, domain: undefined });
  const { id: sessionId, isClockBehind } = nextSessionId(startedMs, base?.sessionId);
  const warnings = [...job.warnings, ...view.warnings];
  if (isClockBehind)
    warnings.push(`the clock of this machine is behind the newest session (${base?.sessionId}); the new one is named 1 ms later. Check the clock.`);
  const owner = ownerOf(repository, volume);
  const token = base === undefined || owner === undefined ? undefined : tokenOf(owner, base);
  const changes = options.changes === undefined ? await view.changesSince(token) : await userChanges(options.changes, { base, volume });
  if (!changes.isKnown && changes.reason !== undefined) warnings.push(`reading everything: ${changes.reason}.`);
  const { sizeBytes } = view;
  const { bandBytes } = context;
  const { isDryRun = false, signal } = options;
  const healing = await healFromSource({ repository, volume, view, base, pool: job.pool, isDryRun, signal });
  warnings.push(...healing.warnings);
  const { damagedInBase } = healing;
  const scope = readScope({ changes, base, sizeBytes, bandBytes, damagedInBase, readsAll: options.verifiesChanges ?? false });
  const isWorthAMap = scope.candidates === undefined || scope.candidates.count() > FEW_BANDS;
  const dataMap = isWorthAMap ? await view.readDataMap() : undefined;
  const bands = { candidates: scope.candidates?.count(), claimed: scope.claimed?.count(), data: dataMap?.ranges };
  const session = { sizeBytes, bandBytes, padding: context.padding, base: base?.manifest, isForced: options.isForced ?? false };
  const kept = volume === undefined ? undefined : await measureKept(volume, INCOMING_NAME);
  const room = new SessionRoom({ ...session, ...bands }, { ...placeOf(repository, options), kept });
  const shared = await openShared(repository, job, warnings);
  return { base, context, scope, dataMap, room, sessionId, startedMs, healing, shared, warnings };
}

async function openShared(repository: Repository, { options, volume, environment }: Job, warnings: string[]): Promise<SharedBands | undefined> {
  const domain = volume === undefined ? repository.findDomain(options.domain) : volume.record.domain;
  if (domain === undefined) return undefined;
  const bandBytes = volume?.record.bandBytes ?? options.bandBytes ?? DEFAULT_BAND_BYTES;
  const shared = await SharedBands.open(
    repository,
    { id: domain.id, bandBytes, padding: volume === undefined ? options.padding : volume.record.padding },
    environment.catalog,
  );
  if (shared === undefined) warnings.push(`without a catalog, bands that volumes of the key domain "${domain.name}" hold already are stored again.`);
  return shared;
}

async function userChanges(changes: UserChanges, { base, volume }: Pick<Plan, 'base'> & Pick<Job, 'volume'>): Promise<ChangeSet> {
  const since = base === undefined ? undefined : await volume?.resolve(changes.since);
  if (base !== undefined && base.sessionId === since) return { isKnown: true, ranges: changes.ranges };
  const session = since ?? changes.since;
  return { isKnown: false, reason: `the changed ranges count from session ${session}, but the newest session is ${base?.sessionId ?? 'none'}` };
}

async function openBase({ volume, options, environment }: Job): Promise<SessionDirectory | undefined> {
  if (volume === undefined) return undefined;
  const newest = (await volume.sessionIds()).at(-1);
  const base = newest === undefined ? undefined : await openNewest(volume, newest);
  const { acceptsRollback: isAccepted = false, isDryRun = false } = options;
  await checkRollback({ catalog: environment.catalog, volume, newest: base, isAccepted, isDryRun });
  return base;
}

async function openNewest(volume: Volume, newest: string): Promise<SessionDirectory> {
  try {
    return await volume.openSession(newest);
  } catch (cause) {
    throw new TimebandError(
      `the newest session of "${volume.name}", ${newest}, cannot be opened: ${messageOf(cause)}. Nothing was changed. ` +
        `Run "timeband check --repair ${volume.name}"; if it cannot be mended, move ${volume.sessionPath(newest)} out of the repository to go on from the session before.`,
      { code: cause instanceof TimebandError ? cause.code : 'IO_ERROR', cause },
    );
  }
}
