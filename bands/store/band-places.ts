/**
 * Where a session's bands are, as readers need it. To look a band up in its page, and to encrypt its number into a file's name, takes
 * a tenth of the time that reading a small piece of it takes; so what was looked up lately is kept.
 */
import { ENTRIES_PER_PAGE } from '../format/geometry.ts';
import { nameOfSealing, type PageEntries, readEntry, type StoredBand } from '../format/index-page.ts';
import type { SessionDirectory } from './session-directory.ts';

/** A few hundred bytes each. */
const MAX_PLACES = 4096;

export interface BandPlace {
  readonly band: StoredBand;
  /** Of this sealing of the band: what is decoded of it is kept under it. */
  readonly name: string;
  readonly file: string;
}

export class BandPlaces {
  readonly #session: SessionDirectory;
  readonly #places = new Map<number, BandPlace | undefined>();

  constructor(session: SessionDirectory) {
    this.#session = session;
  }

  /**
   * Undefined for a band of zeros. At once, if it is known: promises for each request are much of what a read costs.
   * @throws TimebandError RECORD_MISSING, RECORD_CORRUPT, IO_ERROR; only as a rejection
   */
  get(bandIndex: number): BandPlace | undefined | Promise<BandPlace | undefined> {
    const known = this.#places.get(bandIndex);
    if (known !== undefined || this.#places.has(bandIndex)) return known;
    return this.#session.readPage(Math.floor(bandIndex / ENTRIES_PER_PAGE)).then((entries) => this.#keep(bandIndex, entries));
  }

  #keep(bandIndex: number, entries: PageEntries): BandPlace | undefined {
    const band = readEntry(entries, bandIndex % ENTRIES_PER_PAGE);
    const place = band === undefined ? undefined : { band, name: nameOfSealing(band), file: this.#session.bandPaths(bandIndex, 1)[0] ?? '' };
    for (const oldest of this.#places.keys()) {
      if (this.#places.size < MAX_PLACES) break;
      this.#places.delete(oldest);
    }
    this.#places.set(bandIndex, place);
    return place;
  }
}
