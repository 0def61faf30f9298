/** What a sync is asked for, and what it says it did. */
import type { ByteRange } from '../../bands/format/geometry.ts';
import type { Padding } from '../../bands/format/padding.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import type { Catalog } from '../catalog.ts';
import type { OnProgress } from '../progress.ts';
import type { openSource } from '../sources/open-source.ts';
import type { SourceKind } from '../sources/source.ts';
import type { SpaceReport } from './space.ts';

/** What the user knows to have changed since the session `since`; anything else is linked unread. */
export interface UserChanges {
  /** As `sync --since` takes it: an id, a tag, latest … */
  readonly since: string;
  readonly ranges: readonly ByteRange[];
}

export interface SyncOptions {
  readonly name: string;
  /** Where the data is; undefined: where it was the last time. */
  readonly location?: string | undefined;
  /** How to read it; undefined: the best way that applies. */
  readonly sourceKind?: SourceKind | undefined;
  readonly tags?: readonly string[];
  readonly note?: string;
  /** For a new volume. */
  readonly bandBytes?: number | undefined;
  /** For a new volume: the key domain that it is put into; equal bands of all volumes of a domain are one file. */
  readonly domain?: string | undefined;
  /** For a new volume: how its band files are padded. */
  readonly padding?: Padding | undefined;
  /** Make a session even if nothing changed. */
  readonly isForced?: boolean;
  /** Only report what would be stored. */
  readonly isDryRun?: boolean;
  /** Take a newest session that is older or another than the catalog remembers. */
  readonly acceptsRollback?: boolean;
  readonly changes?: UserChanges | undefined;
  /** Read everything and report what the source should have named as changed. */
  readonly verifiesChanges?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
  /** Told at once what may keep the sync from coming to its end; it is among the result's warnings, too. */
  readonly onWarning?: ((message: string) => void) | undefined;
}

/** What a sync needs beside the repository. */
export interface SyncEnvironment {
  readonly catalog?: Catalog | undefined;
  readonly pool?: BandPool | undefined;
  readonly nowMs?: () => number;
  /** Where sources keep what belongs to this machine; undefined: nowhere. */
  readonly stateDirectory?: string | undefined;
  /** How a source is opened; a program may wrap it, or bring its own. */
  readonly openSource?: typeof openSource;
}

export interface SyncResult {
  readonly volume: string;
  readonly status: 'created' | 'unchanged' | 'dry-run';
  /** The new session; if there is none, the newest. */
  readonly session: string | undefined;
  readonly base: string | undefined;
  readonly source: { readonly kind: string; readonly location: string };
  readonly sizeBytes: number;
  readonly bands: number;
  readonly zeroBands: number;
  readonly changedBands: number;
  readonly writtenBands: number;
  /** Of those written: what an interrupted sync had stored already. */
  readonly resumedBands: number;
  readonly linkedBands: number;
  /** Bands whose file was there already, in some volume of the key domain, and the bytes of these files. */
  readonly sharedBands: number;
  readonly sharedBytes: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Of those: padding, which hides how well each band compresses. */
  readonly paddedBytes: number;
  readonly storedBytes: number;
  readonly durationMs: number;
  /** Damaged bands of earlier sessions that are whole again. */
  readonly healedBands: number;
  /** Bands that changed although the source said that they had not. Earlier sessions may lack such changes. */
  readonly missedBands: number;
  /** What a session takes of the repository's disk, and what was free before it. */
  readonly space: SpaceReport;
  readonly warnings: readonly string[];
}
