/**
 * Making a session. The order is what keeps it safe: lock, freeze the source, store, link, write the records, make all
 * durable, rename (the commit), and only then tell the catalog and the source.
 */
import { hostname } from 'node:os';
import path from 'node:path';
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { Bitmap } from '../../bands/format/bitmap.ts';
import { bandCountOf, DEFAULT_BAND_BYTES, isBandBytes } from '../../bands/format/geometry.ts';
import { checkTag, type Labels, labelsCodec, NO_LABELS } from '../../bands/format/labels.ts';
import { type Manifest, manifestCodec } from '../../bands/format/manifest.ts';
import { nextSessionId, parseSessionId } from '../../bands/format/session-id.ts';
import { checkVolumeName } from '../../bands/format/volume-record.ts';
import { SESSION_FILES, type SessionDirectory, type VolumeContext } from '../../bands/store/session-directory.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import type { Catalog } from '../catalog.ts';
import { Lock } from '../locks.ts';
import type { OnProgress } from '../progress.ts';
import type { Repository } from '../repository.ts';
import { absoluteLocation } from '../sources/image-source.ts';
import { openSource } from '../sources/open-source.ts';
import type { BaseToken, ChangeSet, SourceView } from '../sources/source.ts';
import { PROGRAM } from '../version.ts';
import type { Volume } from '../volume.ts';
import { clearIncoming, Incoming } from './incoming.ts';
import { interrupted, PageSync } from './page-sync.ts';
import { checkRollback } from './rollback.ts';

export interface SyncOptions {
  readonly name: string;
  /** Where the data is; undefined: where it was the last time. */
  readonly location?: string | undefined;
  readonly tags?: readonly string[];
  readonly note?: string;
  /** For a new volume. */
  readonly bandBytes?: number | undefined;
  /** Make a session even if nothing changed. */
  readonly isForced?: boolean;
  /** Only report what would be stored. */
  readonly isDryRun?: boolean;
  /** Take a newest session that is older or another than the catalog remembers. */
  readonly acceptsRollback?: boolean;
  /** What the user knows to have changed since `since`; anything else is linked unread. */
  readonly changes?: { readonly since: string; readonly ranges: readonly { readonly offset: number; readonly length: number }[] } | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

/** What a sync needs beside the repository. */
export interface SyncEnvironment {
  readonly catalog?: Catalog | undefined;
  readonly pool?: BandPool | undefined;
  readonly nowMs?: () => number;
}

export interface SyncResult {
  readonly volume: string;
  readonly status: 'created' | 'unchanged' | 'dry-run';
  /** The new session; if there is none, the newest. */
  readonly session: string | undefined;
  readonly base: string | undefined;
  readonly source: { readonly kind: string; readonly location: string };
  readonly sizeBytes: number;
  readonly bands: number;
  readonly zeroBands: number;
  readonly changedBands: number;
  readonly writtenBands: number;
  readonly linkedBands: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly storedBytes: number;
  readonly durationMs: number;
  readonly warnings: readonly string[];
}

/**
 * Backs up one volume.
 * @throws TimebandError LOCKED, SOURCE_*, ROLLBACK_DETECTED, NO_SPACE, IO_ERROR, INTERRUPTED; the repository then holds what it held
 */
export async function syncVolume(repository: Repository, options: SyncOptions, environment: SyncEnvironment = {}): Promise<SyncResult> {
  checkVolumeName(options.name);
  for (const tag of options.tags ?? []) checkTag(tag);
  const existing = await repository.findVolume(options.name);
  checkBandSize(options.bandBytes, existing);
  const location = await chooseLocation(options, existing, environment.catalog);
  await using view = disposable(await openSource(location));
  if (options.isDryRun === true) return await runSync(repository, { options, environment, view: view.it, volume: existing });
  const volume = existing ?? (await repository.createVolume(options.name, options.bandBytes === undefined ? {} : { bandBytes: options.bandBytes }));
  await using _lock = await Lock.acquire(repository.layout.locks, {
    scope: volume.id,
    what: `volume "${volume.name}"`,
    command: `sync ${volume.name}`,
  });
  try {
    await clearIncoming(volume);
    return await runSync(repository, { options, environment, view: view.it, volume });
  } catch (error) {
    if (existing === undefined) await repository.removeEmptyVolume(volume); // under the lock: nobody else is syncing into it
    throw error;
  }
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

function disposable(it: SourceView): { readonly it: SourceView } & AsyncDisposable {
  return { it, [Symbol.asyncDispose]: () => it.close() };
}

async function chooseLocation(options: SyncOptions, volume: Volume | undefined, catalog: Catalog | undefined): Promise<string> {
  if (options.location !== undefined) return await absoluteLocation(options.location);
  if (volume === undefined) {
    throw new TimebandError(
      `volume "${options.name}" is not in the repository yet. Say where its data is: timeband sync ${options.name}=/path/to/image`,
      { code: 'USAGE' },
    );
  }
  const remembered = (await catalog?.source(volume.id)) ?? (await newestSource(volume));
  if (remembered !== undefined) return remembered.location;
  throw new TimebandError(`where volume "${options.name}" comes from is not known. Say it: timeband sync ${options.name}=/path/to/image`, {
    code: 'USAGE',
  });
}

async function newestSource(volume: Volume): Promise<Manifest['source'] | undefined> {
  const newest = (await volume.sessionIds()).at(-1);
  return newest === undefined ? undefined : (await volume.openSession(newest)).manifest.source;
}

interface Job {
  readonly options: SyncOptions;
  readonly environment: SyncEnvironment;
  readonly view: SourceView;
  /** Undefined in a dry run of a volume that does not exist yet. */
  readonly volume: Volume | undefined;
}

/** What is known before the first band is read. */
interface Plan {
  readonly base: SessionDirectory | undefined;
  readonly context: VolumeContext;
  readonly candidates: Bitmap | undefined;
  readonly sessionId: string;
  readonly startedMs: number;
  readonly warnings: string[];
}

async function runSync(repository: Repository, job: Job): Promise<SyncResult> {
  const startedAt = performance.now();
  const plan = await makePlan(repository, job);
  const incoming = job.options.isDryRun === true || job.volume === undefined ? undefined : await Incoming.create(job.volume);
  try {
    const pages = await storePages(job, plan, incoming);
    const isCreated = incoming !== undefined && pages.hasChanges;
    if (isCreated) await commit(repository, job, { ...plan, incoming, pages, finishedMs: (job.environment.nowMs ?? Date.now)() });
    else await rememberUnchanged(job, plan);
    return describe(job, plan, { pages, isCreated, durationMs: Math.round(performance.now() - startedAt) });
  } catch (error) {
    // Ctrl-C reaches child processes, too: what fails because of it is not worth telling.
    throw job.options.signal?.aborted === true ? interrupted() : error;
  } finally {
    await incoming?.discard(); // after a commit there is nothing at that path
  }
}

async function makePlan(repository: Repository, job: Job): Promise<Plan> {
  const { options, environment, view, volume } = job;
  const startedMs = (environment.nowMs ?? Date.now)();
  const base = await openBase(job);
  const context = volume?.context ?? repository.temporaryContext(options.bandBytes ?? DEFAULT_BAND_BYTES);
  const { id: sessionId, isClockBehind } = nextSessionId(startedMs, base?.sessionId);
  const warnings = [...view.warnings];
  if (isClockBehind)
    warnings.push(`the clock of this machine is behind the newest session (${base?.sessionId}); the new one is named 1 ms later. Check the clock.`);
  const token =
    base === undefined || volume === undefined ? undefined : { repositoryId: repository.id, volumeId: volume.id, sessionId: base.sessionId };
  const candidates = await findCandidates(job, { base, context, token, warnings });
  return { base, context, candidates, sessionId, startedMs, warnings };
}

async function storePages({ options, environment, view }: Job, plan: Plan, incoming: Incoming | undefined): Promise<PageSync> {
  const ownPool = environment.pool === undefined ? new BandPool() : undefined;
  const pool = environment.pool ?? ownPool;
  if (pool === undefined) throw new RangeError('pool: none');
  try {
    const pages = new PageSync({
      view,
      dataMap: plan.candidates === undefined ? await view.readDataMap() : undefined, // few bands: reading their holes is cheaper
      context: plan.context,
      base: plan.base,
      candidates: plan.candidates,
      pool,
      incoming,
      sessionMs: parseSessionId(plan.sessionId) ?? plan.startedMs,
      isForced: options.isForced ?? false,
      signal: options.signal,
      onProgress: options.onProgress,
    });
    await pages.run();
    plan.warnings.push(...(await view.verifyStable()));
    if (options.signal?.aborted === true) throw interrupted();
    const healed = pages.counts.healedBands;
    if (healed > 0)
      plan.warnings.push(
        `${healed} band file(s) of session ${plan.base?.sessionId} are missing; this session holds them anew, read from the source. Run "timeband check".`,
      );
    return pages;
  } finally {
    await ownPool?.close();
  }
}

async function rememberUnchanged({ environment: { catalog }, options, view, volume }: Job, { base }: Plan): Promise<void> {
  if (volume === undefined || options.isDryRun === true) return;
  await catalog?.rememberSource(volume.id, { kind: view.kind, location: view.location });
  if (base !== undefined) await catalog?.rememberNewest(volume.id, base);
}

function describe(
  { options, view }: Job,
  plan: Plan,
  done: { readonly pages: PageSync; readonly isCreated: boolean; readonly durationMs: number },
): SyncResult {
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
    linkedBands: counts.linkedBands + counts.copiedBands,
    readBytes: counts.readBytes,
    writtenBytes: counts.writtenBytes,
    storedBytes: totals?.storedBytes ?? 0,
    durationMs: done.durationMs,
    warnings: plan.warnings,
  };
}

async function openBase({ volume, options, environment }: Job): Promise<SessionDirectory | undefined> {
  if (volume === undefined) return undefined;
  const newest = (await volume.sessionIds()).at(-1);
  const base = newest === undefined ? undefined : await openNewest(volume, newest);
  await checkRollback({ catalog: environment.catalog, volume, newest: base, isAccepted: options.acceptsRollback ?? false });
  return base;
}

async function openNewest(volume: Volume, newest: string): Promise<SessionDirectory> {
  try {
    return await volume.openSession(newest);
  } catch (cause) {
    throw new TimebandError(
      `the newest session of "${volume.name}", ${newest}, cannot be opened: ${messageOf(cause)}. Nothing was changed. ` +
        `Run "timeband check ${volume.name}"; move ${volume.sessionPath(newest)} out of the repository to go on from the session before.`,
      { code: cause instanceof TimebandError ? cause.code : 'IO_ERROR', cause },
    );
  }
}

/** The bands that must be read; undefined: all of them. */
async function findCandidates(
  { options, view }: Job,
  known: {
    readonly base: SessionDirectory | undefined;
    readonly context: VolumeContext;
    readonly token: BaseToken | undefined;
    readonly warnings: string[];
  },
): Promise<Bitmap | undefined> {
  const { base, context } = known;
  const changes: ChangeSet = options.changes === undefined ? await view.changesSince(known.token) : userChanges(options.changes, base);
  if (!changes.isKnown || base === undefined) {
    if (!changes.isKnown && changes.reason !== undefined) known.warnings.push(`reading everything: ${changes.reason}.`);
    return undefined;
  }
  const { bandBytes } = context;
  const candidates = new Bitmap(bandCountOf(view.sizeBytes, bandBytes));
  const oldSize = base.manifest.sizeBytes;
  const resized = oldSize === view.sizeBytes ? [] : [{ offset: Math.min(oldSize, view.sizeBytes), length: Math.abs(oldSize - view.sizeBytes) }];
  for (const { offset, length } of [...changes.ranges, ...resized]) {
    if (length > 0) candidates.setRange(Math.floor(offset / bandBytes), Math.ceil((offset + length) / bandBytes));
  }
  // A size that is no whole band: what lies behind the old or new end within the last band changed with it.
  if (resized.length > 0) candidates.setRange(Math.floor(Math.min(oldSize, view.sizeBytes) / bandBytes), candidates.size);
  return candidates;
}

function userChanges(changes: NonNullable<SyncOptions['changes']>, base: SessionDirectory | undefined): ChangeSet {
  if (base?.sessionId === changes.since) return { isKnown: true, ranges: changes.ranges };
  return { isKnown: false, reason: `the changed ranges count from session ${changes.since}, but the newest session is ${base?.sessionId ?? 'none'}` };
}

interface Finished extends Plan {
  readonly incoming: Incoming;
  readonly pages: PageSync;
  readonly finishedMs: number;
}

async function commit(repository: Repository, { options, environment, view, volume }: Job, done: Finished): Promise<void> {
  const { incoming, pages, base, sessionId } = done;
  if (volume === undefined) throw new RangeError('volume: none to commit to');
  const at = (name: keyof typeof SESSION_FILES): string => path.join(incoming.directory, SESSION_FILES[name]);
  const bitmapDigest = await incoming.writeRecord(at('bitmap'), { kind: 'bitmap', at: sessionId }, pages.changed.encode());
  const { counts } = pages;
  const manifest: Manifest = {
    sessionId,
    volumeId: volume.context.volumeId,
    sizeBytes: view.sizeBytes,
    bandBytes: volume.context.bandBytes,
    startedMs: done.startedMs,
    finishedMs: done.finishedMs,
    base: base === undefined ? undefined : { sessionId: base.sessionId, manifestDigest: base.manifestDigest },
    pageDigests: pages.pageDigests,
    bitmapDigest,
    source: { kind: view.kind, location: view.location, host: hostname() },
    totals: {
      bands: bandCountOf(view.sizeBytes, volume.context.bandBytes),
      zeroBands: counts.zeroBands,
      changedBands: counts.changedBands,
      storedBytes: counts.storedBytes,
      writtenBytes: counts.writtenBytes,
    },
    program: PROGRAM,
  };
  const manifestDigest = await incoming.writeRecord(at('manifest'), { kind: 'manifest', at: sessionId }, manifestCodec.encode(manifest));
  const labels = newLabels(options);
  if (labels !== undefined) await incoming.writeRecord(at('labels'), { kind: 'labels', at: sessionId }, labelsCodec.encode(labels));
  await incoming.commit(sessionId);
  await environment.catalog?.rememberPages(volume.id, pages.newPages);
  await environment.catalog?.rememberNewest(volume.id, { sessionId, manifestDigest });
  await environment.catalog?.rememberSource(volume.id, { kind: view.kind, location: view.location });
  await view.committed({ repositoryId: repository.id, volumeId: volume.id, sessionId });
}

function newLabels({ tags = [], note = '' }: SyncOptions): Labels | undefined {
  if (tags.length === 0 && note === '') return undefined;
  return { ...NO_LABELS, tags: [...new Set(tags)].sort(), note };
}
