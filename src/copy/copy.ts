/**
 * Copies sessions from one repository into another, with their sharing. A volume keeps its id there, a session its id,
 * times and labels. Under the same keys all is copied as it is; under others it is sealed anew. Each session is committed
 * by itself, oldest first, so that whatever ends a copy, what is there is whole and the next one goes on.
 */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import type { Catalog } from '../catalog.ts';
import { knownDamage, saltName } from '../damaged-bands.ts';
import { emptyTrash } from '../deletion/trash.ts';
import { Lease } from '../leases.ts';
import type { OnProgress } from '../progress.ts';
import type { Repository } from '../repository.ts';
import { checkRollback, findRollback } from '../sync/rollback.ts';
import { SharedBands, sharingDomain } from '../sync/shared-bands.ts';
import type { Volume } from '../volume.ts';
import { interruptedCopy, isDamage } from './copy-bands.ts';
import { copySession } from './copy-session.ts';
import { measureCopy } from './measure.ts';
import { openIfWhole } from './neighbour.ts';
import { type CopyRequest, planCopy, requireTwoRepositories, type VolumePlan } from './plan.ts';

export interface CopyOptions {
  /** Undefined: all volumes. */
  readonly requests: readonly CopyRequest[] | undefined;
  /** Leave damaged sessions out and copy the others. */
  readonly isKeepGoing?: boolean;
  /** Only tell what would be copied. */
  readonly isDryRun?: boolean;
  /** Go on although the target's newest session is older or another than its catalog remembers. */
  readonly acceptsRollback?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

export interface CopyEnvironment {
  readonly pool?: BandPool | undefined;
  readonly sourceCatalog?: Catalog | undefined;
  readonly targetCatalog?: Catalog | undefined;
}

export interface SessionOutcome {
  readonly volume: string;
  readonly session: string;
  /** `gone`: it was deleted before its turn came. */
  readonly status: 'copied' | 'planned' | 'present' | 'damaged' | 'gone';
  /** Bands written to the target, and their bytes there; of a dry run, as the source stores them. */
  readonly writtenBands: number;
  readonly writtenBytes: number;
  /** Of those, bands that an earlier run had written. */
  readonly resumedBands: number;
  readonly linkedBands: number;
  readonly readBytes: number;
  /** What is wrong with it. */
  readonly message: string | undefined;
}

export interface CopyResult {
  /** Whether bands were copied as they are; else they were sealed anew. */
  readonly hasSameKeys: boolean;
  readonly sessions: readonly SessionOutcome[];
  /** Whether nothing was left out: no session, no volume, no labels. */
  readonly isComplete: boolean;
  readonly warnings: readonly string[];
  readonly durationMs: number;
}

/**
 * @throws TimebandError USAGE (one and the same repository), VOLUME_NOT_FOUND, SESSION_NOT_FOUND, VOLUME_EXISTS, TARGET_EXISTS,
 * LOCKED, ROLLBACK_DETECTED, NO_SPACE, BAND_*, RECORD_* (damage), INTERRUPTED; sessions that were copied before stay
 */
export async function copySessions(
  source: Repository,
  target: Repository,
  options: CopyOptions,
  environment: CopyEnvironment = {},
): Promise<CopyResult> {
  const startedAt = performance.now();
  await requireTwoRepositories(source, target);
  const ownPool = environment.pool === undefined && options.isDryRun !== true ? new BandPool() : undefined;
  try {
    const run = new CopyRun({ source, target, options, environment, pool: environment.pool ?? ownPool });
    await run.copyAll(await run.plan());
    const { outcomes: sessions, isComplete, warnings, hasSameKeys } = run;
    return { hasSameKeys, sessions, isComplete, warnings, durationMs: Math.round(performance.now() - startedAt) };
  } finally {
    await ownPool?.close();
  }
}

interface CopyJob {
  readonly source: Repository;
  readonly target: Repository;
  readonly options: CopyOptions;
  readonly environment: CopyEnvironment;
  readonly pool: BandPool | undefined;
}

/** Where sessions of one volume come from, and where they go. */
interface CopyWay {
  readonly source: Volume;
  readonly target: Volume;
  /** Salts of bands on the target's damaged list. */
  readonly listed: ReadonlySet<string>;
  /** What the volumes of the target's key domain hold. */
  readonly shared: SharedBands | undefined;
}

const NOTHING = { writtenBands: 0, writtenBytes: 0, resumedBands: 0, linkedBands: 0, readBytes: 0, message: undefined } as const;

class CopyRun {
  readonly outcomes: SessionOutcome[] = [];
  readonly warnings: string[] = [];
  readonly hasSameKeys: boolean;
  isComplete = true;
  readonly #job: CopyJob;
  #totalBands = 0;
  #doneBands = 0;
  #readBytes = 0;

  constructor(job: CopyJob) {
    this.#job = job;
    this.hasSameKeys = job.source.hasSameKeysAs(job.target);
  }

  async plan(): Promise<VolumePlan[]> {
    const { source, target, options, environment } = this.#job;
    const plans = await planCopy(source, target, options.requests ?? (await this.#allVolumes()));
    for (const { source: volume, present } of plans) {
      const id = (await volume.sessionIds()).at(-1);
      const newest = id === undefined ? undefined : { sessionId: id, manifestDigest: (await openIfWhole(volume, id))?.manifestDigest };
      const rollback = await findRollback({ catalog: environment.sourceCatalog, volume, newest });
      if (rollback !== undefined) this.warnings.push(`${rollback}. Sessions may have been removed, or the repository put back to an older state.`);
      for (const session of present) this.outcomes.push({ ...NOTHING, volume: volume.name, session, status: 'present' });
    }
    return plans;
  }

  async #allVolumes(): Promise<CopyRequest[]> {
    const { source, options } = this.#job;
    const { volumes, damaged } = await source.listVolumes();
    if (damaged[0] !== undefined && options.isKeepGoing !== true) throw damaged[0].error;
    for (const { error } of damaged) this.warnings.push(`a volume was left out: ${error.message}`);
    if (damaged.length > 0) this.isComplete = false;
    return volumes.map(({ name }) => ({ name, session: undefined }));
  }

  async copyAll(plans: readonly VolumePlan[]): Promise<void> {
    for (const { source, missing } of plans) for (const id of missing) this.#totalBands += (await openIfWhole(source, id))?.bandCount ?? 0;
    for (const plan of plans) {
      if (plan.missing.length === 0) continue;
      if (this.#job.options.isDryRun === true) await this.#measure(plan);
      else await this.#copyVolume(plan);
    }
  }

  async #measure(plan: VolumePlan): Promise<void> {
    for (const { session, newBands, newBytes, linkedBands } of await measureCopy(plan, this.hasSameKeys)) {
      const counts = { writtenBands: newBands, writtenBytes: newBytes, linkedBands };
      this.outcomes.push({ ...NOTHING, ...counts, volume: plan.source.name, session, status: 'planned' });
    }
  }

  async #copyVolume(plan: VolumePlan): Promise<void> {
    const { target } = this.#job;
    const { name } = plan.source;
    const volume = plan.target ?? (await target.createVolume(name, { copyOf: plan.source }));
    await using _lock = await target.lockVolume(volume, 'copy');
    try {
      await emptyTrash(target.layout.trash, [volume.layout.sessions]);
      await this.#guard(plan, volume);
      const listed = new Set((await knownDamage(volume, (message) => this.warnings.push(message))).map(({ salt }) => saltName(salt)));
      const shared = await SharedBands.open(target, sharingDomain(volume), this.#job.environment.targetCatalog);
      const there = new Set(await volume.sessionIds()); // under the lock: another copy may have been faster
      for (const id of plan.missing) {
        if (there.has(id)) this.outcomes.push({ ...NOTHING, volume: name, session: id, status: 'present' });
        else await this.#copyOne(id, { source: plan.source, target: volume, listed, shared });
      }
    } finally {
      const isInterrupted = this.#job.options.signal?.aborted === true; // then there is something to go on with
      // what led here is to be told, whether it can be removed or not
      if (plan.target === undefined && !isInterrupted) await target.removeEmptyVolume(volume).catch(() => undefined);
    }
  }

  /** The two are copies of one another, so the catalog knows of both together: which of them it has seen what in, it cannot tell. */
  get #isTwin(): boolean {
    return this.#job.source.id === this.#job.target.id;
  }

  /** The rollback guard of the target: what it misses may be just what is about to be copied. */
  async #guard(plan: VolumePlan, volume: Volume): Promise<void> {
    const { environment, options } = this.#job;
    if (this.#isTwin) return;
    const catalog = environment.targetCatalog;
    const remembered = await catalog?.newest(volume.id);
    if (remembered !== undefined && plan.missing.includes(remembered.sessionId)) {
      const original = await openIfWhole(plan.source, remembered.sessionId);
      if (this.hasSameKeys && original !== undefined && equalBytes(original.manifestDigest, remembered.manifestDigest)) return;
    }
    const newest = (await volume.sessionIds()).at(-1);
    await checkRollback({
      catalog,
      volume,
      newest: newest === undefined ? undefined : await volume.openSession(newest),
      isAccepted: options.acceptsRollback ?? false,
    });
  }

  async #remember(volume: Volume, copied: string): Promise<void> {
    if (this.#isTwin || (await volume.sessionIds()).at(-1) !== copied) return;
    await this.#job.environment.targetCatalog?.rememberNewest(volume.id, await volume.openSession(copied));
  }

  async #copyOne(sessionId: string, way: CopyWay): Promise<void> {
    const { source, target } = way;
    const about = { ...NOTHING, volume: source.name, session: sessionId };
    const doneBefore = this.#doneBands;
    try {
      const { counts, warnings } = await this.#leaseAndCopy(sessionId, way);
      const { copiedBands, linkedBands, ...rest } = counts;
      this.outcomes.push({ ...about, ...rest, linkedBands: linkedBands + copiedBands, status: 'copied' });
      this.warnings.push(...warnings);
      if (warnings.length > 0) this.isComplete = false;
      await this.#remember(target, sessionId);
    } catch (error) {
      const isDeleted = error instanceof TimebandError && (error.code === 'LOCKED' || error.code === 'SESSION_NOT_FOUND');
      if (!isDeleted && !this.#isDamaged(error)) throw error;
      const isGone = !(await source.sessionIds()).includes(sessionId);
      if (isDeleted && !isGone) throw error;
      if (!isGone && this.#job.options.isKeepGoing !== true) throw this.#damaged(error, `${source.name}@${sessionId}`);
      this.#doneBands = doneBefore;
      this.isComplete = false;
      this.outcomes.push({ ...about, status: isGone ? 'gone' : 'damaged', message: isGone ? 'it was deleted meanwhile' : error.message });
    }
  }

  async #leaseAndCopy(sessionId: string, { source, target, listed, shared }: CopyWay): ReturnType<typeof copySession> {
    const { options, environment, pool } = this.#job;
    if (options.signal?.aborted === true) throw interruptedCopy();
    if (pool === undefined) throw new RangeError('pool: none');
    const { locks } = this.#job.source.layout;
    await using _lease = await Lease.take({
      locks,
      volume: source.name,
      volumeId: source.id,
      sessionId,
      command: 'copy',
    });
    return await copySession({
      from: source,
      source: await source.openSession(sessionId),
      target,
      hasSameKeys: this.hasSameKeys,
      listed,
      shared,
      pool,
      catalog: environment.targetCatalog,
      signal: options.signal,
      onBands: (bands, readBytes) => this.#report(bands, readBytes),
    });
  }

  #report(bands: number, readBytes: number): void {
    this.#doneBands += bands;
    this.#readBytes += readBytes;
    const done = { doneBands: this.#doneBands, totalBands: this.#totalBands, doneBytes: this.#readBytes, totalBytes: 0 };
    this.#job.options.onProgress?.({ phase: 'copy', ...done });
  }

  /** Whether the source is what cannot be read, and not the target that cannot be written. */
  #isDamaged(error: unknown): error is TimebandError {
    return isDamage(error) && error.path?.startsWith(`${this.#job.source.layout.root}/`) === true;
  }

  #damaged(error: TimebandError, title: string): TimebandError {
    const copied = this.outcomes.filter(({ status }) => status === 'copied').length;
    const { code, path } = error;
    return new TimebandError(
      `${title} is damaged and was not copied: ${messageOf(error)}. ${copied} session(s) copied before stay. ` +
        `Run "timeband check" for all that is damaged; --keep-going copies the sessions that are whole.`,
      { code, cause: error, ...(path === undefined ? {} : { path }) },
    );
  }
}
