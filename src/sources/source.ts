/**
 * Where a volume's data is read from, together with the way to learn what changed.
 *
 * The contract of every source:
 * - It may name too many ranges, never too few. One that cannot vouch for its change set says `unknown` and why; then
 *   every band is read. Discarded, zeroed and cut ranges are changes.
 * - Opening freezes one point in time where the source can, and all data is read from that point.
 * - What the next change set counts from (a snapshot, a clone, a bitmap: the *reference*) is bound to a session by its
 *   token before that session is committed, and is used only if it is bound to the session that is the base then. So a
 *   crash at any moment, a repository put back to an older state, or a reference that was replaced leads to `unknown`.
 * - The old reference is dropped only after the commit.
 */
import type { ByteRange } from '../../bands/format/geometry.ts';
import type { BandInput } from '../../bands/workers/tasks.ts';
import type { DataMap } from './data-map.ts';

export const SOURCE_KINDS = ['image', 'device', 'tracked', 'reflink', 'lvm-thin', 'bundle', 'qcow2', 'nbd', 'zfs'] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];

/** What may differ from the base session. */
export type ChangeSet =
  | { readonly isKnown: true; readonly ranges: readonly ByteRange[] }
  /** Why not, for the user; undefined where nothing else was to be expected. */
  | { readonly isKnown: false; readonly reason: string | undefined };

/** The volume that references are kept for: a source may be backed up into several repositories. */
export interface SourceOwner {
  /** 32 hex digits each. */
  readonly repositoryId: string;
  readonly volumeId: string;
}

/** A committed session, or one about to be: what a reference is bound to. */
export interface SessionToken extends SourceOwner {
  /** 32 hex digits of the SHA-256 of the session's sealed manifest, which holds a random nonce: no two sessions share one. */
  readonly commitId: string;
  /** As users name it; a token that is only compared needs none. */
  readonly sessionId?: string;
}

/** What a driver is given to open a source. */
export interface SourceContext {
  /** Undefined in a dry run of a volume that does not exist yet: then nothing can be kept for it. */
  readonly owner: SourceOwner | undefined;
  /** A folder for this machine's own records; undefined: keep none. */
  readonly stateDirectory: string | undefined;
  /** Nothing will be bound, and nobody holds the volume's lock: what other syncs left is not touched. */
  readonly isDryRun: boolean;
}

/** A source's data at one point in time (or, for a plain file, while it is read). */
export interface SourceView {
  readonly kind: SourceKind;
  /** As the user may give it again. */
  readonly location: string;
  readonly sizeBytes: number;
  /** For the user: what may be wrong with this copy. */
  readonly warnings: readonly string[];
  /** Where data is; undefined if everything must be read. */
  readDataMap(): Promise<DataMap | undefined>;
  /** What changed since the session `base`, whose size may have been another; undefined: there is none. */
  changesSince(base: SessionToken | undefined): Promise<ChangeSet>;
  /**
   * Lends what a worker needs to read `range`, until `use` is done. Several ranges are lent at once.
   * @param data pairs (start within the range, length) where data is; undefined: everywhere
   */
  withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T>;
  /** Called when all was read. @returns further warnings @throws TimebandError SOURCE_CHANGED */
  verifyStable(): Promise<readonly string[]>;
  /**
   * Binds the frozen point to a session, durably: called right before its commit, or, when nothing changed, with the
   * base. References of other sessions stay. A source that keeps none does nothing.
   */
  bind(token: SessionToken): Promise<void>;
  /** Called when the session is durable: references of other sessions of this owner are dropped. @returns warnings */
  committed(token: SessionToken): Promise<readonly string[]>;
  /** Lets go of everything that was not bound. */
  close(): Promise<void>;
}

/** Whether a driver takes a location, and why (not), for `timeband sources`. */
export interface SourceProbe {
  readonly applies: boolean;
  readonly reason: string;
}

/** One way to read a source. */
export interface SourceDriver {
  readonly kind: SourceKind;
  /** Looks without changing anything. @throws TimebandError when the location is meant for this driver and cannot be used */
  probe(location: string): Promise<SourceProbe>;
  /** @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, PERMISSION_DENIED, TOOL_MISSING, TOOL_FAILED */
  open(location: string, context: SourceContext): Promise<SourceView>;
  /** Removes the references that were kept for `owner` beside or in the source. @returns what was removed, for the user */
  forget(location: string, context: SourceContext): Promise<readonly string[]>;
}
