/**
 * Making a session. The order is what keeps it safe: lock, freeze the source, store, link, write the records, make all
 * durable, rename (the commit), and only then tell the catalog and the source.
 */
import { firstError, TimebandError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { bandCountOf, DEFAULT_BAND_BYTES, isBandBytes } from '../../bands/format/geometry.ts';
import { checkTag } from '../../bands/format/labels.ts';
import { checkPaddingChoice } from '../../bands/format/padding.ts';
import { parseSessionId } from '../../bands/format/session-id.ts';
import { checkVolumeName } from '../../bands/format/volume-record.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { emptyTrash } from '../deletion/trash.ts';
import type { Repository } from '../repository.ts';
import { openSource } from '../sources/open-source.ts';
import type { SourceView } from '../sources/source.ts';
import type { Volume } from '../volume.ts';
import { commitSession, keepUnchanged } from './commit.ts';
import { clearIncoming, Incoming } from './incoming.ts';
import { chooseVolumeSource, ownerOf } from './location.ts';
import { interrupted, PageSync } from './page-sync.ts';
import { INCOMING_NAME, type Job, makePlan, type Plan, type PooledJob, placeOf } from './plan.ts';
import { missedBands } from './read-scope.ts';
import type { SyncEnvironment, SyncOptions, SyncResult } from './request.ts';
import { explainFullDisk, type SpaceReport } from './space.ts';

/**
 * Backs up one volume.
 * @throws TimebandError LOCKED, SOURCE_*, ROLLBACK_DETECTED, NO_SPACE, IO_ERROR, INTERRUPTED; the repository then holds what it held
 */
export async function syncVolume(repository: Repository, options: SyncOptions, environment: SyncEnvironment = {}): Promise<SyncResult> {
  try {
    return await syncLocked(repository, options, environment);
  } catch (error) {
    throw await explainFullDisk(firstError(error), placeOf(repository, options));
  }
}

async function syncLocked(repository: Repository, options: SyncOptions, environment: SyncEnvironment): Promise<SyncResult> {
  checkVolumeName(options.name);
  for (const tag of options.tags ?? []) checkTag(tag);
  const existing = await repository.findVolume(options.name);
  checkBandSize(options.bandBytes, existing);
  checkDomain(repository, options.domain, existing);
  checkSamePadding(options, existing);
  const { location, choice } = await chooseVolumeSource(options, { volume: existing, catalog: environment.catalog });
  const isDryRun = options.isDryRun ?? false;
  const runWith = async (volume: Volume | undefined): Promise<SyncResult> => {
    const context = { owner: ownerOf(repository, volume), stateDirectory: environment.stateDirectory, isDryRun };
    const { view, warning } = await (environment.openSource ?? openSource)(location, choice, context);
    await using _open = { [Symbol.asyncDispose]: () => view.close() };
    return await runSync(repository, { options, environment, view, volume, warnings: warning === undefined ? [] : [warning] });
  };
  if (isDryRun) return await runWith(existing);
  const { bandBytes, padding, domain } = options;
  const volume = existing ?? (await repository.createVolume(options.name, { bandBytes, padding, domain }));
  await using _lock = await repository.lockVolume(volume, 'sync');
  try {
    await clearIncoming(volume, INCOMING_NAME);
    await emptyTrash(repository.layout.trash, [volume.layout.sessions]);
    return await runWith(volume); // under the lock: leftovers of a killed sync are nobody else's
  } catch (error) {
    // under the lock: nobody else is syncing into it; and what led here is to be told, whether it can be removed or not
    if (existing === undefined) await repository.removeEmptyVolume(volume).catch(() => undefined);
    throw error;
  }
}

function checkDomain(repository: Repository, name: string | undefined, existing: Volume | undefined): void {
  if (name === undefined) return;
  const domain = repository.findDomain(name);
  const own = existing?.record.domain;
  if (existing === undefined || own?.name === name) return;
  if (own !== undefined && domain !== undefined && equalBytes(own.id, domain.id)) return; // whose name was lost, and made up by a repair
  throw new TimebandError(
    `volume "${existing.name}" ${own === undefined ? 'is in no key domain' : `is in the key domain "${own.name}"`}; that cannot be changed, as its bands are sealed so. ` +
      'Leave --domain out, or sync to a new volume.',
    { code: 'USAGE' },
  );
}

function checkBandSize(bandBytes: number | undefined, existing: Volume | undefined): void {
  if (bandBytes === undefined) return;
  if (!isBandBytes(bandBytes))
    throw new TimebandError(`a band size of ${bandBytes} bytes is not possible: use a power of two from 256K to 64M.`, { code: 'USAGE' });
  if (existing === undefined || existing.record.bandBytes === bandBytes) return;
  throw new TimebandError(
    `volume "${existing.name}" has bands of ${existing.record.bandBytes} bytes; that cannot be changed. Leave --band-size out.`,
    { code: 'USAGE' },
  );
}

/** @throws TimebandError USAGE */
function checkSamePadding({ padding, bandBytes = DEFAULT_BAND_BYTES }: SyncOptions, existing: Volume | undefined): void {
  if (padding === undefined) return;
  if (existing === undefined) checkPaddingChoice(padding, bandBytes);
  if (existing === undefined || existing.record.padding === padding) return;
  const are = existing.record.padding === undefined ? 'not padded' : `padded otherwise (--pad ${existing.record.padding})`;
  throw new TimebandError(
    `the bands of volume "${existing.name}" are ${are}, and that cannot be changed. Leave --pad out, or make a volume of another name.`,
    { code: 'USAGE' },
  );
}

async function runSync(repository: Repository, job: Job): Promise<SyncResult> {
  if (job.environment.pool !== undefined) return await runWithPool(repository, { ...job, pool: job.environment.pool });
  await using pool = new BandPool();
  return await runWithPool(repository, { ...job, pool });
}

async function runWithPool(repository: Repository, job: PooledJob): Promise<SyncResult> {
  const startedAt = performance.now();
  try {
    const plan = await makePlan(repository, job);
    const result = await storeAndCommit(repository, job, plan).catch(async (error: unknown) => {
      throw await plan.room.explain(error);
    });
    return { ...result, durationMs: Math.round(performance.now() - startedAt) };
  } catch (error) {
    throw orInterrupted(job, error);
  }
}

type TimelessResult = Omit<SyncResult, 'durationMs'>;

async function storeAndCommit(repository: Repository, job: PooledJob, plan: Plan): Promise<TimelessResult> {
  const before = job.options.isDryRun === true ? undefined : await plan.room.require();
  if (before?.warning !== undefined) {
    plan.warnings.push(before.warning);
    job.options.onWarning?.(before.warning);
  }
  let incoming: Incoming | undefined;
  try {
    incoming = await resumeIncoming(job);
    let pages = await storePages(job, plan, incoming);
    const missed = missedBands(plan.scope, pages.changed);
    if (missed > 0) plan.warnings.push(distrust(job.view, missed, plan.base));
    if (missed > 0 && plan.scope.candidates !== undefined) {
      const { resumedBands } = pages.counts;
      const dataMap = await job.view.readDataMap();
      incoming = await resumeIncoming(job);
      pages = await storePages(job, { ...plan, dataMap, scope: { ...plan.scope, candidates: undefined } }, incoming);
      pages.counts.resumedBands = Math.min(pages.counts.resumedBands, resumedBands); // the others this sync has stored itself, just now
    }
    const missedBandCount = missed > 0 ? missedBands(plan.scope, pages.changed) : 0;
    const isCreated = await finish(repository, job, { plan, incoming, pages, isTrusted: missed === 0 });
    const space = before?.report ?? (await measureSpace(plan, pages));
    return describe(job, plan, { pages, isCreated, missedBands: missedBandCount, space });
  } catch (error) {
    throw await keepStored(job, incoming, error);
  }
}

/** Where the session is written; undefined in a dry run. */
async function resumeIncoming({ options, volume }: Job): Promise<Incoming | undefined> {
  return options.isDryRun === true || volume === undefined ? undefined : await Incoming.resume(volume, INCOMING_NAME);
}

async function measureSpace({ room, warnings }: Plan, { counts, hasChanges }: PageSync): Promise<SpaceReport> {
  const { report, warning } = await room.measure(hasChanges ? { bands: counts.writtenBands, bytes: counts.writtenBytes } : undefined);
  if (warning !== undefined) warnings.push(warning);
  return report;
}

/** Keeps what was stored for the next sync. @returns the error, which tells of it */
async function keepStored(job: Job, incoming: Incoming | undefined, error: unknown): Promise<unknown> {
  const kept = (await incoming?.keep()) ?? 0;
  const failure = orInterrupted(job, error);
  if (kept === 0 || !(failure instanceof TimebandError)) return failure;
  const { code, cause, path } = failure;
  const message = `${failure.message.replace(/\.$/, '')}. The ${kept} band file(s) that are ready are kept: the next sync of "${job.options.name}" uses what still holds.`;
  return new TimebandError(message, path === undefined ? { code, cause } : { code, cause, path });
}

/** Ctrl-C reaches child processes, too: what fails because of it is not worth telling. */
function orInterrupted({ options }: Job, error: unknown): unknown {
  const isTold = error instanceof TimebandError && error.code === 'INTERRUPTED';
  return options.signal?.aborted === true && !isTold ? interrupted() : error;
}

function distrust(view: SourceView, missed: number, base: SessionDirectory | undefined): string {
  return (
    `THE CHANGE TRACKING OF ${view.location} (${view.kind}) CANNOT BE TRUSTED: at least ${missed} band(s) changed since session ${base?.sessionId} without being named. ` +
    'Everything was read for this session, so it is right; sessions before it may lack changes. Use --source image or --source device, or --verify-changes each time, until the cause is known.'
  );
}

interface Stored {
  readonly incoming: Incoming | undefined;
  readonly pages: PageSync;
}

/** Reads what the plan's scope asks for and stores what changed. */
async function storePages({ options, pool, view }: PooledJob, plan: Plan, incoming: Incoming | undefined): Promise<PageSync> {
  const { candidates } = plan.scope;
  const pages = new PageSync({
    view,
    dataMap: plan.dataMap,
    context: plan.context,
    base: plan.base,
    candidates,
    damagedInBase: plan.healing.damagedInBase,
    shared: plan.shared,
    pool,
    incoming,
    isResumed: (await incoming?.hasBands()) ?? false,
    sessionMs: parseSessionId(plan.sessionId) ?? plan.startedMs,
    isForced: options.isForced ?? false,
    signal: options.signal,
    onProgress: options.onProgress,
  });
  await pages.run();
  plan.warnings.push(...(await view.verifyStable()));
  if (options.signal?.aborted === true) throw interrupted();
  const { storedAgain } = pages.counts;
  if (storedAgain > 0)
    plan.warnings.push(
      `${storedAgain} band file(s) of session ${plan.base?.sessionId} are missing; this session holds them anew, read from the source. ` +
        'Run "timeband check --repair", which gives them back to the sessions that lack them.',
    );
  return pages;
}

/** Commits what changed. @returns whether there is a new session */
async function finish(repository: Repository, job: Job, done: Stored & { readonly plan: Plan; readonly isTrusted: boolean }): Promise<boolean> {
  const { options, environment, view, volume } = job;
  const { plan, incoming, pages } = done;
  const owner = ownerOf(repository, volume);
  if (volume === undefined || owner === undefined || incoming === undefined) return false; // a dry run
  const session = { volume, owner, view, catalog: environment.catalog, keepsReference: done.isTrusted && options.changes === undefined };
  if (!pages.hasChanges) {
    await incoming.discard();
    plan.warnings.push(...(await keepUnchanged(session, plan.base)));
    return false;
  }
  const { tags = [], note = '' } = options;
  const { base, sessionId, startedMs } = plan;
  const finishedMs = (environment.nowMs ?? Date.now)();
  plan.warnings.push(...(await commitSession({ ...session, base, sessionId, startedMs, finishedMs, tags, note, incoming, pages })));
  return true;
}

function describe(
  { options, view }: Job,
  plan: Plan,
  done: {
    readonly pages: PageSync;
    readonly isCreated: boolean;
    readonly missedBands: number;
    readonly space: SpaceReport;
  },
): TimelessResult {
  const { counts } = done.pages;
  const isDryRun = options.isDryRun ?? false;
  const totals = done.isCreated || isDryRun ? counts : plan.base?.manifest.totals;
  return {
    volume: options.name,
    status: isDryRun ? 'dry-run' : done.isCreated ? 'created' : 'unchanged',
    session: done.isCreated ? plan.sessionId : plan.base?.sessionId,
    base: plan.base?.sessionId,
    source: { kind: view.kind, location: view.location },
    sizeBytes: view.sizeBytes,
    bands: bandCountOf(view.sizeBytes, plan.context.bandBytes),
    zeroBands: totals?.zeroBands ?? 0,
    changedBands: counts.changedBands,
    writtenBands: counts.writtenBands,
    resumedBands: counts.resumedBands,
    linkedBands: counts.linkedBands + counts.copiedBands,
    sharedBands: counts.sharedBands,
    sharedBytes: counts.sharedBytes,
    readBytes: counts.readBytes,
    writtenBytes: counts.writtenBytes,
    paddedBytes: counts.paddedBytes,
    storedBytes: totals?.storedBytes ?? 0,
    healedBands: plan.healing.healedBands,
    missedBands: done.missedBands,
    space: done.space,
    warnings: plan.warnings,
  };
}
