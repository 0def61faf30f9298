/** A volume's list of damaged bands: what `check --repair` found and could not mend. FORMAT.md, "Damaged list". */
import { TimebandError } from '../errors.ts';
import { SALT_BYTES } from './band-header.ts';
import { toHex } from './bytes.ts';
import { type JsonCodec, jsonCodec } from './json-record.ts';

/** One sealing of a band; all sessions whose index has this salt at this place share the damage. */
export interface DamagedBand {
  readonly bandIndex: number;
  /** 24 bytes. */
  readonly salt: Uint8Array;
}

/** Sorts by band, then by salt, and leaves out what is there twice: the one order that is valid. */
export function sortDamaged(bands: readonly DamagedBand[]): DamagedBand[] {
  const sorted = [...bands].sort(compare);
  return sorted.filter((band, i) => i === 0 || compare(sorted[i - 1] ?? band, band) !== 0);
}

function compare(a: DamagedBand, b: DamagedBand): number {
  const [saltA, saltB] = [toHex(a.salt), toHex(b.salt)];
  return a.bandIndex - b.bandIndex || (saltA < saltB ? -1 : saltA > saltB ? 1 : 0);
}

export const damagedListCodec: JsonCodec<readonly DamagedBand[]> = jsonCodec('damaged list', {
  toJson: (bands) => ({
    format: 'timeband-damaged',
    version: 1,
    bands: bands.map(({ bandIndex, salt }) => ({ band: bandIndex, salt: toHex(salt) })),
  }),
  fromJson(fields) {
    fields.constant('format', 'timeband-damaged');
    fields.constant('version', 1);
    const bands = fields.objects('bands').map((band) => ({ bandIndex: band.integer('band'), salt: band.hex('salt', SALT_BYTES) }));
    if (bands.some((band, i) => i > 0 && compare(bands[i - 1] ?? band, band) >= 0)) {
      throw new TimebandError('damaged list: the bands are not sorted and distinct', { code: 'RECORD_CORRUPT' });
    }
    return bands;
  },
});
