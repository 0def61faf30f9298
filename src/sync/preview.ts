/** Looks at a volume's source as a sync would, and stops before the first band is read; and forgets what syncs kept there. */
import { bandCountOf } from '../../bands/format/geometry.ts';
import type { Catalog } from '../catalog.ts';
import type { Repository } from '../repository.ts';
import { openSource, type SourceChoice } from '../sources/open-source.ts';
import type { ChangeSet, SourceKind, SourceView } from '../sources/source.ts';
import type { Volume } from '../volume.ts';
import { tokenOf } from './commit.ts';
import { chooseVolumeSource, ownerOf, type SourceRequest } from './location.ts';
import { claimedBands } from './read-scope.ts';

export interface SourceEnvironment {
  readonly catalog?: Catalog | undefined;
  readonly stateDirectory?: string | undefined;
}

export interface SourcePreview {
  readonly volume: string;
  readonly location: string;
  readonly kind: SourceKind;
  /** Why this kind. */
  readonly reason: string;
  /** Better kinds that do not apply, and why. */
  readonly others: SourceChoice['others'];
  readonly sizeBytes: number;
  readonly bands: number;
  /** The session that changes count from. */
  readonly base: string | undefined;
  /** What the source names as changed since then; undefined: it cannot tell. */
  readonly changed: { readonly ranges: number; readonly bytes: number; readonly bands: number } | undefined;
  /** Bytes of data that the next sync reads (without the audit), if all that is asked for holds data. */
  readonly toReadBytes: number;
  readonly warnings: readonly string[];
}

/** @throws TimebandError USAGE, SOURCE_*, VOLUME_NOT_FOUND */
export async function previewSource(repository: Repository, request: SourceRequest, environment: SourceEnvironment = {}): Promise<SourcePreview> {
  const volume = await repository.findVolume(request.name);
  const { location, choice } = await chooseVolumeSource(request, { volume, catalog: environment.catalog });
  const context = { owner: ownerOf(repository, volume), stateDirectory: environment.stateDirectory, isDryRun: true };
  const { view, warning } = await openSource(location, choice, context);
  await using _open = { [Symbol.asyncDispose]: () => view.close() };
  const warnings = [...(warning === undefined ? [] : [warning]), ...view.warnings];
  const seen = await look(repository, volume, view);
  return {
    volume: request.name,
    location,
    kind: view.kind,
    reason: choice.reason,
    others: choice.others,
    ...seen,
    warnings: [...warnings, ...seen.warnings],
  };
}

async function look(
  repository: Repository,
  volume: Volume | undefined,
  view: SourceView,
): Promise<Pick<SourcePreview, 'sizeBytes' | 'bands' | 'base' | 'changed' | 'toReadBytes' | 'warnings'>> {
  const { sizeBytes } = view;
  const context = volume?.context ?? repository.temporaryContext();
  const newest = (await volume?.sessionIds())?.at(-1);
  const base = volume === undefined || newest === undefined ? undefined : await volume.openSession(newest);
  const token = base === undefined || volume === undefined ? undefined : tokenOf(ownerOf(repository, volume), base);
  const changes = await view.changesSince(token);
  const { bandBytes } = context;
  const claimed = claimedBands({ changes, base, sizeBytes, bandBytes });
  const known = { sizeBytes, bands: bandCountOf(sizeBytes, bandBytes), base: base?.sessionId };
  if (!changes.isKnown || claimed === undefined) {
    const toReadBytes = (await view.readDataMap())?.dataBytes ?? sizeBytes;
    return { ...known, changed: undefined, toReadBytes, warnings: reasonOf(changes) };
  }
  const bands = claimed.count();
  const bytes = changes.ranges.reduce((sum, { length }) => sum + length, 0);
  const changed = { ranges: changes.ranges.length, bytes, bands };
  return { ...known, changed, toReadBytes: Math.min(bands * bandBytes, sizeBytes), warnings: [] };
}

function reasonOf(changes: ChangeSet): string[] {
  return changes.isKnown || changes.reason === undefined ? [] : [`everything must be read: ${changes.reason}.`];
}

/**
 * Removes what syncs of a volume kept beside or in its source; the next sync reads everything.
 * @returns what was removed @throws TimebandError LOCKED, VOLUME_NOT_FOUND, USAGE
 */
export async function forgetSource(repository: Repository, request: SourceRequest, environment: SourceEnvironment = {}): Promise<readonly string[]> {
  const volume = await repository.volume(request.name);
  const { location, choice } = await chooseVolumeSource(request, { volume, catalog: environment.catalog });
  await using _lock = await repository.lockVolume(volume, 'forget-source');
  return await choice.driver.forget(location, { owner: ownerOf(repository, volume), stateDirectory: environment.stateDirectory, isDryRun: false });
}
