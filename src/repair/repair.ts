/**
 * Repairing a repository: first what other work left and what records can be had back, then a check of everything, then the bands
 * that it found damaged. What cannot be mended goes on the damaged list of its volume; no session is ever deleted. Each step leaves
 * the old state or the new one, so a repair that is killed is finished by the next.
 */
import path from 'node:path';
import { TimebandError } from '../../bands/errors.ts';
import type { DamagedBand } from '../../bands/format/damaged-list.ts';
import { listDirectory, statIfPresent } from '../../bands/store/files.ts';
import { shareBandKeys } from '../../bands/workers/band-pool.ts';
import { type CheckOptions, checkRepository, type FoundDamage } from '../check/check.ts';
import type { CheckResult, Finding } from '../check/findings.ts';
import { changeDamagedList, readDamagedList, saltName } from '../damaged-bands.ts';
import { emptyTrash } from '../deletion/trash.ts';
import { isUnwritable } from '../leases.ts';
import type { Lock } from '../locks.ts';
import type { Repository } from '../repository.ts';
import { clearIncoming } from '../sync/incoming.ts';
import { Volume } from '../volume.ts';
import { contentDonor, copyDonor, remainsDonor } from './band-donors.ts';
import { type BandOutcome, BandRepair } from './band-repair.ts';
import { domainDonor } from './domain-donor.ts';
import { rebuildCatalog } from './rebuild-catalog.ts';
import { PageRepair, repairBitmap } from './repair-index.ts';
import type { RepairJob } from './repair-job.ts';
import { type RepairAction, RepairLog } from './repair-log.ts';
import { repairLabels, repairManifest } from './repair-manifest.ts';
import { repairPublicFiles } from './repair-public.ts';
import { repairVolumeRecord } from './repair-volume.ts';
import { nameOf } from './review-list.ts';
import { Workshop } from './workshop.ts';

export interface RepairOptions extends Pick<CheckOptions, 'pool' | 'volume' | 'withData' | 'catalog' | 'signal' | 'onProgress'> {
  /** A second copy of the repository, opened with the same key. */
  readonly copy?: Repository | undefined;
  /** Only tell what would be done. */
  readonly isDryRun?: boolean;
}

export interface RepairResult {
  /** What the check found that was not mended. */
  readonly check: CheckResult;
  readonly actions: readonly RepairAction[];
  readonly mendedBands: number;
  /** Bands that are on the damaged lists now. */
  readonly listedBands: number;
}

/**
 * Repairs everything, or one volume.
 * @throws TimebandError LOCKED (something is being written), VOLUME_NOT_FOUND, NO_SPACE, PERMISSION_DENIED, INTERRUPTED
 */
export async function repairRepository(repository: Repository, options: RepairOptions): Promise<RepairResult> {
  const log = new RepairLog(options.isDryRun ?? false);
  await repairPublicFiles(repository, log);
  for (const damaged of (await repository.listVolumes()).damaged)
    await log.attempt(() => repairVolumeRecord(repository, damaged, { copy: options.copy, log }));
  const volumes = options.volume === undefined ? (await repository.listVolumes()).volumes : [await repository.volume(options.volume)];
  const locks: Lock[] = [];
  try {
    for (const volume of volumes) {
      const lock = await lockVolume(repository, volume, log.isDryRun);
      if (lock !== undefined) locks.push(lock);
    }
    return await new Repair(repository, options, log).run(volumes);
  } finally {
    for (const lock of locks) await lock.release();
  }
}

/** A dry run of a repository that cannot be written to needs no lock. */
async function lockVolume(repository: Repository, volume: Volume, isDryRun: boolean): Promise<Lock | undefined> {
  try {
    return await repository.lockVolume(volume, 'check --repair');
  } catch (error) {
    if (isDryRun && isUnwritable(error)) return undefined;
    throw error;
  }
}

class Repair {
  readonly #repository: Repository;
  readonly #options: RepairOptions;
  readonly #log: RepairLog;
  readonly #found = new Map<string, { readonly band: DamagedBand; readonly findings: Finding[] }>();
  #mendedBands = 0;
  #listedBands = 0;

  constructor(repository: Repository, options: RepairOptions, log: RepairLog) {
    this.#repository = repository;
    this.#options = options;
    this.#log = log;
  }

  async run(volumes: readonly Volume[]): Promise<RepairResult> {
    await this.#clearTrash(volumes);
    for (const volume of volumes) {
      await this.#clearIncoming(volume);
      await this.#withJob(volume, (job) => repairRecords(job));
    }
    const check = await checkRepository(this.#repository, { ...this.#options, onDamagedBand: (found) => this.#take(found) });
    const mended = new Set<Finding>();
    for (const volume of volumes) {
      for (const finding of await this.#withJob(volume, (job) => this.#repairBands(job))) mended.add(finding);
      if (!this.#log.isDryRun) await rebuildCatalog(volume, this.#options.catalog);
    }
    return {
      check: { ...check, findings: check.findings.filter((one) => !mended.has(one)), warnings: [...check.warnings, ...this.#log.warnings] },
      actions: this.#log.actions,
      mendedBands: this.#mendedBands,
      listedBands: this.#listedBands,
    };
  }

  async #withJob<T>(volume: Volume, work: (job: RepairJob) => Promise<T>): Promise<T> {
    const { pool, catalog, copy, signal } = this.#options;
    await using workshop = await Workshop.open(volume, this.#log.isDryRun);
    const copied = copy === undefined ? undefined : await inCopyOf(copy, volume);
    return await work({ repository: this.#repository, volume, copy: copied, workshop, pool, catalog, log: this.#log, signal });
  }

  /** What killed deletions left. */
  async #clearTrash(volumes: readonly Volume[]): Promise<void> {
    const { layout } = this.#repository;
    const left = (await listDirectory(layout.trash)).length;
    if (left > 0) this.#log.note({}, 'trash', `${left} deletion(s) finished`);
    if (!this.#log.isDryRun) await emptyTrash(layout.trash, [layout.volumes, ...volumes.map((volume) => volume.layout.sessions)]);
  }

  /** What killed syncs and repairs left. */
  async #clearIncoming(volume: Volume): Promise<void> {
    const left = (await listDirectory(volume.layout.incoming)).length;
    if (left === 0) return;
    await this.#log.act({ volume: volume.name }, { what: 'incoming', how: `${left} unfinished folder(s) removed` }, async () => {
      await clearIncoming(volume);
    });
  }

  #take({ volume, bandIndex, salt, finding }: FoundDamage): void {
    const name = `${volume.id} ${nameOf({ bandIndex, salt })}`;
    const known = this.#found.get(name) ?? { band: { bandIndex, salt }, findings: [] };
    known.findings.push(finding);
    this.#found.set(name, known);
  }

  /** Mends bands or lists them. @returns the findings that are settled by that */
  async #repairBands(job: RepairJob): Promise<Finding[]> {
    const { volume, pool, workshop, copy } = job;
    const keys = shareBandKeys(volume.context);
    const listed = await readDamagedList(volume).catch(() => undefined);
    const bands = new Map((listed ?? []).map((band) => [nameOf(band), band]));
    for (const [name, { band }] of this.#found) if (name.startsWith(volume.id)) bands.set(nameOf(band), band);
    const donors = [
      remainsDonor(pool, keys),
      ...(copy === undefined ? [] : [copyDonor(pool, copy)]),
      domainDonor(pool, this.#repository, { volume, salts: new Set([...bands.values()].map(({ salt }) => saltName(salt))) }),
      contentDonor(pool, keys),
    ];
    const repair = new BandRepair({ volume, pool, keys, workshop, donors });
    const settled: Finding[] = [];
    const damaged: DamagedBand[] = [];
    for (const [name, band] of [...bands].sort(([, a], [, b]) => a.bandIndex - b.bandIndex)) {
      if (this.#options.signal?.aborted === true) throw interrupted();
      const outcome = await this.#repairBand(job, repair, band);
      if (outcome.status === 'damaged') damaged.push(band);
      else settled.push(...(this.#found.get(`${volume.id} ${name}`)?.findings ?? []));
    }
    this.#listedBands += damaged.length;
    await this.#writeList(job, { listed, damaged });
    return settled;
  }

  async #repairBand({ volume, log }: RepairJob, repair: BandRepair, band: DamagedBand): Promise<BandOutcome> {
    let outcome: BandOutcome = { status: 'damaged', sessions: [] };
    await log.attempt(async () => {
      outcome = await repair.repair(band);
    });
    return this.#noteBand(volume, band, outcome);
  }

  #noteBand(volume: Volume, band: DamagedBand, outcome: BandOutcome): BandOutcome {
    if (outcome.status !== 'mended') return outcome;
    this.#mendedBands++;
    for (const session of outcome.sessions) this.#log.note({ volume: volume.name, session }, `band ${band.bandIndex}`, outcome.how);
    return outcome;
  }

  async #writeList(
    { repository, volume }: RepairJob,
    { listed, damaged }: { readonly listed: readonly DamagedBand[] | undefined; readonly damaged: readonly DamagedBand[] },
  ): Promise<void> {
    const before = new Set((listed ?? []).map(nameOf));
    const isSame = listed !== undefined && damaged.length === before.size && damaged.every((band) => before.has(nameOf(band)));
    if (isSame) return;
    const added = damaged.filter((band) => !before.has(nameOf(band))).length;
    const how =
      listed === undefined
        ? `made anew, with ${damaged.length} band(s)`
        : `${added} band(s) added, ${before.size + added - damaged.length} taken off`;
    await this.#log.act({ volume: volume.name }, { what: 'damaged list', how }, () =>
      changeDamagedList(repository, volume, () => damaged, { isReset: true }),
    );
  }
}

/** The volume in a second copy, read with the keys and the record of the first; undefined: it is not there. */
async function inCopyOf(copy: Repository, { id, record, context }: Volume): Promise<Volume | undefined> {
  const volume = new Volume(path.join(copy.layout.volumes, id), record, { context });
  return (await statIfPresent(volume.layout.sessions))?.isDirectory() === true ? volume : undefined;
}

/** Mends what records can be had back, of all sessions of a volume. */
async function repairRecords(job: RepairJob): Promise<void> {
  const { volume, log, signal } = job;
  const ids = await volume.sessionIds().catch(() => []); // a folder that is missing is for the check to report
  for (const id of ids.toReversed()) await log.attempt(() => repairManifest(job, id)); // a session pins the manifest of the one before
  const pages = new PageRepair(job);
  for (const id of ids) {
    if (signal?.aborted === true) throw interrupted();
    await log.attempt(() => repairLabels(job, id));
    const session = await volume.openSession(id).catch(() => undefined);
    if (session !== undefined) await pages.repair(session, ids);
  }
  for (const id of ids) {
    const session = await volume.openSession(id).catch(() => undefined);
    if (session !== undefined) await log.attempt(() => repairBitmap(job, session)); // compares indexes, which are mended by now
  }
}

function interrupted(): TimebandError {
  return new TimebandError('interrupted; what was mended so far stays so. Run it again to go on.', { code: 'INTERRUPTED' });
}
