/**
 * Mending one band: where an intact file of the same sealing is, or can be made, every session that shares the damaged one
 * gets it. The index pins salt and length of the file, so a file that takes another's place is the same to the last byte, and
 * it is read and proven before it does.
 */
import { equalBytes } from '../../bands/format/bytes.ts';
import type { DamagedBand } from '../../bands/format/damaged-list.ts';
import type { StoredBand } from '../../bands/format/index-page.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import type { BandKeyMaterial } from '../../bands/workers/tasks.ts';
import type { Volume } from '../volume.ts';
import { type BandFile, BandFinder, BandProver, writtenAtSeconds } from './band-files.ts';
import type { Workshop } from './workshop.ts';

/** A damaged band, and all that is known of it. */
export interface LostBand {
  readonly bandIndex: number;
  readonly band: StoredBand;
  /** The files that are damaged or missing, all of the same sealing. */
  readonly broken: readonly BandFile[];
  /** All files of that band in the volume, of whatever sealing. */
  readonly all: readonly BandFile[];
  readonly mtimeSeconds: number;
}

/** A way to make a lost file again. */
export interface Donor {
  /** Where it takes it from, for people: "from another session". */
  readonly name: string;
  /** Makes the file at `to`. @returns whether there is one now; it is proven by the caller */
  make(lost: LostBand, to: string): Promise<boolean>;
}

export type BandOutcome =
  /** All its files are whole, or no session has it any more. */
  | { readonly status: 'whole' }
  | { readonly status: 'mended'; readonly how: string; readonly sessions: readonly string[] }
  | { readonly status: 'damaged'; readonly sessions: readonly string[] };

export interface BandRepairOptions {
  readonly volume: Volume;
  readonly pool: BandPool;
  readonly keys: BandKeyMaterial;
  /** Undefined: only look. */
  readonly workshop?: Workshop | undefined;
  /** In the order in which they are asked. */
  readonly donors?: readonly Donor[];
}

export class BandRepair {
  readonly #options: BandRepairOptions;
  readonly #prover: BandProver;
  readonly #finder: BandFinder;

  constructor(options: BandRepairOptions) {
    this.#options = options;
    this.#finder = new BandFinder(options.volume);
    this.#prover = new BandProver(options.pool, options.keys);
  }

  /** Mends a band in all sessions that have it. The caller holds the volume's lock, unless it only looks. */
  async repair({ bandIndex, salt }: DamagedBand): Promise<BandOutcome> {
    const all = await this.#finder.find(bandIndex);
    const same = all.filter(({ band }) => equalBytes(band.salt, salt));
    const broken: BandFile[] = [];
    for (const one of same) if (!(await this.#prover.isWhole(one))) broken.push(one);
    const [first] = broken;
    if (first === undefined) return { status: 'whole' };
    const sessions = broken.map(({ sessionId }) => sessionId);
    const { workshop } = this.#options;
    if (workshop === undefined) return { status: 'damaged', sessions };
    const intact = same.find((one) => !broken.includes(one));
    const lost = { bandIndex, band: first.band, broken, all, mtimeSeconds: writtenAtSeconds(same) };
    const found = intact === undefined ? await this.#askDonors(lost, workshop) : { file: intact.file, how: 'from a copy in another session' };
    if (found === undefined) return { status: 'damaged', sessions };
    for (const { file } of broken) await workshop.install(found.file, file);
    return { status: 'mended', how: found.how, sessions };
  }

  async #askDonors(lost: LostBand, workshop: Workshop): Promise<{ readonly file: string; readonly how: string } | undefined> {
    for (const donor of this.#options.donors ?? []) {
      const file = workshop.newPath();
      if (!(await donor.make(lost, file))) continue;
      if (await this.#prover.isWhole({ file, band: lost.band })) return { file, how: donor.name };
    }
    return undefined;
  }
}
