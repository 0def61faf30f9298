/** Where a volume's data is: as the user says, or as it was the last time. */
import { TimebandError } from '../../bands/errors.ts';
import type { Catalog } from '../catalog.ts';
import type { Repository } from '../repository.ts';
import { absoluteLocation } from '../sources/image-source.ts';
import { isAddress } from '../sources/open-source.ts';
import type { SourceOwner } from '../sources/source.ts';
import type { Volume } from '../volume.ts';

/** @throws TimebandError USAGE (nothing is known of it) */
export async function chooseLocation(
  asked: { readonly name: string; readonly location?: string | undefined },
  known: { readonly volume: Volume | undefined; readonly catalog: Catalog | undefined },
): Promise<string> {
  const { name, location } = asked;
  const { volume, catalog } = known;
  if (location !== undefined) return isAddress(location) ? location : await absoluteLocation(location);
  if (volume === undefined) {
    throw new TimebandError(`volume "${name}" is not in the repository yet. Say where its data is: timeband sync ${name}=/path/to/image`, {
      code: 'USAGE',
    });
  }
  const remembered = (await catalog?.source(volume.id))?.location ?? (await newestLocation(volume));
  if (remembered !== undefined) return remembered;
  throw new TimebandError(`where volume "${name}" comes from is not known. Say it: timeband sync ${name}=/path/to/image`, { code: 'USAGE' });
}

async function newestLocation(volume: Volume): Promise<string | undefined> {
  const newest = (await volume.sessionIds()).at(-1);
  return newest === undefined ? undefined : (await volume.openSession(newest)).manifest.source.location;
}

/** For whom a source keeps references. */
export function ownerOf(repository: Repository, volume: Volume): SourceOwner;
export function ownerOf(repository: Repository, volume: Volume | undefined): SourceOwner | undefined;
export function ownerOf(repository: Repository, volume: Volume | undefined): SourceOwner | undefined {
  return volume === undefined ? undefined : { repositoryId: repository.id, volumeId: volume.id };
}
