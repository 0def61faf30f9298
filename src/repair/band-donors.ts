/** Where a lost band file can come from. */

import { utimes } from 'node:fs/promises';
import { ioError } from '../../bands/errors.ts';
import { equalBytes } from '../../bands/format/bytes.ts';
import { bandLengthOf } from '../../bands/format/geometry.ts';
import { readRegularFile, writeNewFile } from '../../bands/store/files.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import type { BandInput, BandKeyMaterial } from '../../bands/workers/tasks.ts';
import type { SourceView } from '../sources/source.ts';
import type { Volume } from '../volume.ts';
import { type BandFile, BandFinder, BandProver, isLost } from './band-files.ts';
import type { Donor, LostBand } from './band-repair.ts';

/** The damaged file itself, where only what surrounds its chunks was hit. */
export function remainsDonor(pool: BandPool, keys: BandKeyMaterial): Donor {
  return {
    name: 'from what is left of it',
    async make({ broken, band, mtimeSeconds }, to) {
      for (const { file } of broken) {
        if (await orFalse(() => pool.run('reframeBand', { keys, file, band, to, mtimeSeconds }))) return true;
      }
      return false;
    },
  };
}

/** The same volume in a second copy of the repository. */
export function copyDonor(pool: BandPool, copy: Volume): Donor {
  const prover = new BandProver(pool, shareBandKeys(copy.context));
  const finder = new BandFinder(copy);
  return {
    name: 'from the other repository',
    async make({ bandIndex, band, mtimeSeconds }, to) {
      const same = (await finder.find(bandIndex)).filter((one) => equalBytes(one.band.salt, band.salt));
      for (const one of same) {
        if (!(await prover.isWhole(one))) continue;
        const bytes = await readRegularFile(one.file, { maxBytes: band.fileBytes, what: 'band file' });
        await writeNewFile(to, bytes, { isDurable: false }); // it becomes durable when it is put to its place
        await utimes(to, mtimeSeconds, mtimeSeconds).catch((error: unknown) => {
          throw ioError(error, 'set the time of', to);
        });
        return true;
      }
      return false;
    },
  };
}

/** Another sealing of the same content: a band that was changed back, or stored again. */
export function contentDonor(pool: BandPool, keys: BandKeyMaterial): Donor {
  return {
    name: 'from another session with the same content',
    async make(lost, to) {
      for (const other of lost.all.filter((one) => isOtherSealing(one, lost))) {
        const bytes = new Uint8Array(new SharedArrayBuffer(keys.bandBytes));
        const isRead = await orFalse(async () => {
          await pool.run('decodeBand', { keys, file: other.file, band: other.band, out: bytes });
          return true;
        });
        if (isRead && (await reseal({ pool, keys, input: { bytes } }, lost, to))) return true;
      }
      return false;
    },
  };
}

function isOtherSealing({ band }: BandFile, lost: LostBand): boolean {
  return equalBytes(band.digest, lost.band.digest) && !equalBytes(band.salt, lost.band.salt);
}

/** The source, where it still holds what the session held. */
export function sourceDonor(pool: BandPool, keys: BandKeyMaterial, view: SourceView): Donor {
  return {
    name: 'from the source',
    async make(lost, to) {
      const offset = lost.bandIndex * keys.bandBytes;
      if (offset >= view.sizeBytes) return false;
      const range = { offset, length: bandLengthOf(lost.bandIndex, view.sizeBytes, keys.bandBytes) };
      return await view.withBand(range, undefined, (input) => reseal({ pool, keys, input }, lost, to));
    },
  };
}

async function reseal(
  from: { readonly pool: BandPool; readonly keys: BandKeyMaterial; readonly input: BandInput },
  { band, mtimeSeconds }: LostBand,
  to: string,
): Promise<boolean> {
  return (await from.pool.run('resealBand', { keys: from.keys, input: from.input, band, file: to, mtimeSeconds })) === 'resealed';
}

/** What cannot be read is not there; any other failure ends the repair. */
async function orFalse(work: () => Promise<boolean>): Promise<boolean> {
  try {
    return await work();
  } catch (error) {
    if (isLost(error)) return false;
    throw error;
  }
}
