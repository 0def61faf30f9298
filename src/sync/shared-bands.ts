/**
 * Bands that the volumes of a key domain hold already. The catalog has hints where a digest may be found; a hint counts only if
 * the index of that volume's newest session says so. The file is linked, so a clone of a template costs its links.
 */
import { rmSync } from 'node:fs';
import { TimebandError } from '../../bands/errors.ts';
import { equalBytes, toHex } from '../../bands/format/bytes.ts';
import { ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { entryCount, type PageEntries, readEntry, type StoredBand } from '../../bands/format/index-page.ts';
import type { Padding } from '../../bands/format/padding.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { addDigest, createDigestFilter } from '../../bands/workers/digest-filter.ts';
import type { BandFileTask, BandKeyMaterial } from '../../bands/workers/tasks.ts';
import type { Catalog, DomainPage } from '../catalog.ts';
import { knownDamage, saltName } from '../damaged-bands.ts';
import type { Repository } from '../repository.ts';
import type { Volume } from '../volume.ts';

/** Hints of what was there once take room in the catalog: up to as many as there are of bands, and these. */
const MAX_OUTDATED_HINTS = 100_000;

/** What a sync found for a band. */
export interface WantedBand {
  readonly digest: Uint8Array;
  /** Under the key of the volume that wants it. */
  readonly fingerprint: Uint8Array;
  /** Only this sealing of it will do; undefined: any. */
  readonly salt?: Uint8Array | undefined;
}

/** Where the file of a band is to be, and the keys of the volume that it is for. */
export interface BandTaker {
  readonly file: string;
  readonly keys: BandKeyMaterial;
}

/** A band as a neighbour has it. */
interface FoundBand {
  readonly file: string;
  readonly band: StoredBand;
}

/** The newest session of a volume of the domain; the volume itself is among them. */
interface Neighbour {
  readonly session: SessionDirectory;
  /** Of files that are known to be damaged. */
  readonly damagedSalts: ReadonlySet<string>;
}

/** A key domain, as far as its volumes can share files. */
export interface SharingDomain {
  /** 16 bytes. */
  readonly id: Uint8Array;
  readonly bandBytes: number;
  /** A file that is padded otherwise would show how well its band compresses. */
  readonly padding: Padding | undefined;
}

/** That of a volume; undefined if it is in none. */
export function sharingDomain({ record: { domain, bandBytes, padding } }: Volume): SharingDomain | undefined {
  return domain === undefined ? undefined : { id: domain.id, bandBytes, padding };
}

export class SharedBands {
  /** For the workers: digests that may be found. */
  readonly filter: Uint8Array;
  readonly #hints: Hints;
  /** Once a sync, the first time that a hint leads nowhere. */
  #renewed: Promise<void> | undefined;

  private constructor(hints: Hints, filter: Uint8Array) {
    this.#hints = hints;
    this.filter = filter;
  }

  /**
   * Brings the catalog's hints up to date with the newest sessions of the volumes of a domain. A volume that is damaged is passed
   * over. Undefined without a domain, or without a catalog. @throws TimebandError RECORD_MISSING (the folder of the volumes), IO_ERROR
   */
  static async open(repository: Repository, domain: SharingDomain | undefined, catalog: Catalog | undefined): Promise<SharedBands | undefined> {
    if (domain === undefined || catalog === undefined || !catalog.isKept) return undefined;
    const neighbours = new Map<string, Neighbour>();
    for (const volume of (await repository.listVolumes()).volumes) {
      const neighbour = isInSharingDomain(volume, domain) ? await openNeighbour(volume) : undefined;
      if (neighbour !== undefined) neighbours.set(volume.id, neighbour);
    }
    const hints: Hints = { catalog, domain: nameInCatalog(domain), neighbours };
    const bands = [...neighbours.values()].reduce((sum, { session }) => sum + session.manifest.totals.bands - session.manifest.totals.zeroBands, 0);
    const filter = createDigestFilter(bands);
    const fill = async (): Promise<number> => await catalog.eachDomainDigest(hints.domain, (digest) => addDigest(filter, digest));
    await gatherHints(hints);
    if ((await fill()) > MAX_OUTDATED_HINTS + 2 * bands) {
      await renewHints(hints);
      filter.fill(0);
      await fill();
    }
    return new SharedBands(hints, filter);
  }

  /** Drops what the catalog has of a volume's domain. */
  static async forget(volume: Volume, catalog: Catalog): Promise<void> {
    const domain = sharingDomain(volume);
    if (domain !== undefined) await catalog.forgetDomain(nameInCatalog(domain));
  }

  /**
   * What the index is to say of a band that is stored already, whose file becomes that of `taker` (undefined: only look). Undefined
   * if there is none, or none that is whole: it is proven first, as long as the bytes are at hand to be stored instead. By the
   * taker's own fingerprint, since whoever has the key of another volume may have sealed other bytes under that digest.
   */
  async take(wanted: WantedBand, taker: BandTaker | undefined, pool: BandPool): Promise<StoredBand | undefined> {
    const found = await this.#find(wanted);
    if (found === undefined) return undefined;
    const band = { ...found.band, fingerprint: wanted.fingerprint };
    if (taker === undefined) return band;
    if (!(await isWhole({ keys: taker.keys, file: found.file, band }, pool))) return undefined;
    rmSync(taker.file, { force: true }); // what an interrupted sync left
    const [outcome] = await pool.run('linkFiles', { from: [found.file], to: [taker.file] });
    return outcome === 'missing' ? undefined : band; // deleted meanwhile
  }

  async #find(wanted: WantedBand): Promise<FoundBand | undefined> {
    const found = await this.#lookUp(wanted);
    if (found !== 'outdated' && (found !== undefined || this.#renewed === undefined)) return found; // while hints are renewed, some are missing
    this.#renewed ??= renewHints(this.#hints); // another volume may hold it, whose hint was replaced by this one
    await this.#renewed;
    const again = await this.#lookUp(wanted);
    return again === 'outdated' ? undefined : again;
  }

  async #lookUp({ digest, salt }: WantedBand): Promise<FoundBand | 'outdated' | undefined> {
    const { catalog, domain, neighbours } = this.#hints;
    const hint = await catalog.domainHint(domain, digest);
    if (hint === undefined) return undefined;
    const neighbour = neighbours.get(hint.volumeId);
    const band = neighbour === undefined ? undefined : await neighbour.session.readBandEntry(hint.bandIndex).catch(() => undefined);
    if (neighbour === undefined || band === undefined || !equalBytes(band.digest, digest)) return 'outdated';
    if (salt !== undefined && !equalBytes(band.salt, salt)) return undefined;
    if (neighbour.damagedSalts.has(saltName(band.salt))) return undefined;
    const [file = ''] = neighbour.session.bandPaths(hint.bandIndex, 1);
    return { file, band };
  }
}

/** Bands of different size are never equal. */
function nameInCatalog({ id, bandBytes, padding }: SharingDomain): string {
  return `${toHex(id)}-${bandBytes}-${padding ?? 'none'}`;
}

/** What the hints of a domain are made of. */
interface Hints {
  readonly catalog: Catalog;
  /** Its name in the catalog. */
  readonly domain: string;
  readonly neighbours: ReadonlyMap<string, Neighbour>;
}

export function isInSharingDomain(volume: Volume, domain: SharingDomain): boolean {
  const own = sharingDomain(volume);
  return own !== undefined && equalBytes(own.id, domain.id) && own.bandBytes === domain.bandBytes && own.padding === domain.padding;
}

async function isWhole(task: BandFileTask, pool: BandPool): Promise<boolean> {
  try {
    await pool.run('checkBand', { ...task, withData: true });
    return true;
  } catch (error) {
    if (error instanceof TimebandError) return false; // its own check tells of it
    throw error;
  }
}

async function openNeighbour(volume: Volume): Promise<Neighbour | undefined> {
  const newest = (await volume.sessionIds().catch(() => [])).at(-1);
  const session = newest === undefined ? undefined : await volume.openSession(newest).catch(() => undefined);
  if (session === undefined) return undefined;
  const damaged = await knownDamage(volume, () => undefined); // its own sync warns of it
  return { session, damagedSalts: new Set(damaged.map(({ salt }) => saltName(salt))) };
}

/** Adds what index pages hold that are not among the hints yet. */
async function gatherHints({ catalog, domain, neighbours }: Hints): Promise<void> {
  for (const [volumeId, { session }] of neighbours) {
    for (const [pageNumber, digest] of session.manifest.pageDigests.entries()) {
      const page: DomainPage = { volumeId, pageNumber, digest };
      if (await catalog.isPageInDomain(domain, page)) continue;
      const entries = await session.readPage(pageNumber).catch(() => undefined); // a damaged page has no hints
      if (entries !== undefined) await catalog.addPageToDomain(domain, page, storedBands(entries, pageNumber));
    }
  }
}

/** Gathers all hints anew: those of what was deleted or has changed are gone then. */
async function renewHints(hints: Hints): Promise<void> {
  await hints.catalog.forgetDomain(hints.domain);
  await gatherHints(hints);
}

function* storedBands(entries: PageEntries, pageNumber: number): Generator<{ readonly digest: Uint8Array; readonly bandIndex: number }> {
  for (let i = 0; i < entryCount(entries); i++) {
    const band = readEntry(entries, i);
    if (band !== undefined) yield { digest: band.digest, bandIndex: pageNumber * ENTRIES_PER_PAGE + i };
  }
}
