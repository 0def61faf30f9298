/** Where a volume's data is: as the user says, or as it was the last time. */
import { TimebandError } from '../../bands/errors.ts';
import type { Catalog, RememberedSource } from '../catalog.ts';
import type { Repository } from '../repository.ts';
import { absoluteLocation } from '../sources/image-source.ts';
import { chooseSource, isAddress, type SourceChoice } from '../sources/open-source.ts';
import type { SourceKind, SourceOwner } from '../sources/source.ts';
import type { Volume } from '../volume.ts';

/** What the user asks of a volume's source. */
export interface SourceRequest {
  readonly name: string;
  /** Undefined: where it was the last time. */
  readonly location?: string | undefined;
  /** Undefined: the best way that applies. */
  readonly sourceKind?: SourceKind | undefined;
}

/** What is known of the volume. */
interface Known {
  readonly volume: Volume | undefined;
  readonly catalog: Catalog | undefined;
}

/**
 * Where a volume's data is, and the driver that reads it. Changes nothing.
 * @throws TimebandError USAGE (nothing is known of it), SOURCE_NOT_FOUND, SOURCE_INVALID, TOOL_MISSING, PERMISSION_DENIED
 */
export async function chooseVolumeSource(asked: SourceRequest, known: Known): Promise<{ readonly location: string; readonly choice: SourceChoice }> {
  const location = await chooseLocation(asked, known);
  const choice = await chooseSource(location, asked.sourceKind);
  if (!choice.isForced) await refuseNewFormat(location, choice.driver.kind, known);
  return { location, choice };
}

async function chooseLocation({ name, location }: SourceRequest, { volume, catalog }: Known): Promise<string> {
  if (location !== undefined) return isAddress(location) ? location : await absoluteLocation(location);
  if (volume === undefined) {
    throw new TimebandError(`volume "${name}" is not in the repository yet. Say where its data is: timeband sync ${name}=/path/to/image`, {
      code: 'USAGE',
    });
  }
  const remembered = await rememberedSource(volume, catalog);
  if (remembered !== undefined) return remembered.location;
  throw new TimebandError(`where volume "${name}" comes from is not known. Say it: timeband sync ${name}=/path/to/image`, { code: 'USAGE' });
}

/** The guest of a raw disk can write what a qcow2 image begins with: that must not turn its backups into what the header describes. */
async function refuseNewFormat(location: string, kind: SourceKind, { volume, catalog }: Known): Promise<void> {
  if (kind !== 'qcow2' || volume === undefined || isAddress(location)) return;
  const remembered = await rememberedSource(volume, catalog);
  if (remembered === undefined || remembered.location !== location || remembered.kind === 'qcow2') return;
  throw new TimebandError(
    `${location} was backed up as ${remembered.kind} until now, but begins like a qcow2 image. Say how to read it: --source qcow2 for the disk in it, --source image for the file as it is.`,
    { code: 'SOURCE_INVALID', path: location },
  );
}

async function rememberedSource(volume: Volume, catalog: Catalog | undefined): Promise<RememberedSource | undefined> {
  const remembered = await catalog?.source(volume.id);
  if (remembered !== undefined) return remembered;
  const newest = (await volume.sessionIds()).at(-1);
  return newest === undefined ? undefined : (await volume.openSession(newest)).manifest.source;
}

/** For whom a source keeps references. */
export function ownerOf(repository: Repository, volume: Volume): SourceOwner;
export function ownerOf(repository: Repository, volume: Volume | undefined): SourceOwner | undefined;
export function ownerOf(repository: Repository, volume: Volume | undefined): SourceOwner | undefined {
  return volume === undefined ? undefined : { repositoryId: repository.id, volumeId: volume.id };
}
