/** The other volumes of a key domain as donors: what one of them got mended, or held as a copy, is whole for the others, too. */
import { ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { entryCount, readEntry } from '../../bands/format/index-page.ts';
import { linkOrCopy } from '../../bands/store/link-file.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../../bands/workers/band-pool.ts';
import { saltName } from '../damaged-bands.ts';
import type { Repository } from '../repository.ts';
import { isInSharingDomain, sharingDomain } from '../sync/shared-bands.ts';
import type { Volume } from '../volume.ts';
import { type BandFile, BandProver } from './band-files.ts';
import type { Donor } from './band-repair.ts';

/**
 * Gives files of the same sealing, as links. All indexes of the domain are read once, if it is asked at all.
 * @param salts of the bands that it may be asked for
 */
export function domainDonor(
  pool: BandPool,
  repository: Repository,
  { volume, salts }: { readonly volume: Volume; readonly salts: ReadonlySet<string> },
): Donor {
  const prover = new BandProver(pool, shareBandKeys(volume.context));
  let found: Promise<ReadonlyMap<string, readonly BandFile[]>> | undefined;
  return {
    name: 'from another volume of its key domain',
    async make({ band }, to) {
      found ??= findInDomain(repository, volume, salts);
      for (const one of (await found).get(saltName(band.salt)) ?? []) {
        if ((await prover.isWhole({ file: one.file, band })) && linkOrCopy(one.file, to) !== 'missing') return true;
      }
      return false;
    },
  };
}

async function findInDomain(repository: Repository, volume: Volume, salts: ReadonlySet<string>): Promise<ReadonlyMap<string, readonly BandFile[]>> {
  const files = new Map<string, BandFile[]>();
  const domain = sharingDomain(volume);
  if (domain === undefined) return files;
  for (const other of (await repository.listVolumes()).volumes) {
    if (other.id === volume.id || !isInSharingDomain(other, domain)) continue;
    for (const id of await other.sessionIds().catch(() => [])) {
      const session = await other.openSession(id).catch(() => undefined);
      if (session === undefined) continue; // damaged itself
      for (const file of await filesOf(session, salts)) {
        const name = saltName(file.band.salt);
        files.set(name, [...(files.get(name) ?? []), file]);
      }
    }
  }
  return files;
}

async function filesOf(session: SessionDirectory, salts: ReadonlySet<string>): Promise<BandFile[]> {
  const files: BandFile[] = [];
  for (let page = 0; page < session.pageCount; page++) {
    const entries = await session.readPage(page).catch(() => new Uint8Array(0));
    for (let i = 0; i < entryCount(entries); i++) {
      const band = readEntry(entries, i);
      if (band === undefined || !salts.has(saltName(band.salt))) continue;
      files.push({ sessionId: session.sessionId, file: session.bandPaths(page * ENTRIES_PER_PAGE + i, 1)[0] ?? '', band });
    }
  }
  return files;
}
