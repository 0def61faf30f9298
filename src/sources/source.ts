/**
 * Where a volume's data is read from, together with the way to learn what changed. A source may name too many ranges,
 * never too few; one that cannot vouch for its change set says `unknown` and why, and then every band is read.
 */
import type { ByteRange } from '../../bands/format/geometry.ts';
import type { DataMap } from './data-map.ts';

/** What may differ from the base session. */
export type ChangeSet =
  | { readonly isKnown: true; readonly ranges: readonly ByteRange[] }
  /** Why not, for the user; undefined where nothing else was to be expected. */
  | { readonly isKnown: false; readonly reason: string | undefined };

/** The session that a change set counts from: its id in this repository. */
export interface BaseToken {
  readonly repositoryId: string;
  readonly volumeId: string;
  readonly sessionId: string;
}

/** A source's data at one point in time (or, for a plain file, while it is read). */
export interface SourceView {
  readonly kind: string;
  /** As the user may give it again. */
  readonly location: string;
  /** Open for reading; workers read it by position. */
  readonly fd: number;
  readonly sizeBytes: number;
  /** For the user: what may be wrong with this copy. */
  readonly warnings: readonly string[];
  /** Where data is; undefined if everything must be read. */
  readDataMap(): Promise<DataMap | undefined>;
  /** What changed since `base`. */
  changesSince(base: BaseToken | undefined): Promise<ChangeSet>;
  /** Called when all was read. @returns further warnings @throws TimebandError SOURCE_CHANGED */
  verifyStable(): Promise<readonly string[]>;
  /** Called when the session is durable: the source may move its reference point. */
  committed(token: BaseToken): Promise<void>;
  close(): Promise<void>;
}
