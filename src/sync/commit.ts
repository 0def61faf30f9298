/** The end of a sync: the records of a new session, its commit, and what is remembered of it. */
import { hostname } from 'node:os';
import { messageOf } from '../../bands/errors.ts';
import { toHex } from '../../bands/format/bytes.ts';
import { bandCountOf } from '../../bands/format/geometry.ts';
import { type Labels, labelsCodec, NO_LABELS } from '../../bands/format/labels.ts';
import { type Manifest, manifestCodec } from '../../bands/format/manifest.ts';
import { isInDomain, type SessionDirectory } from '../../bands/store/session-directory.ts';
import type { Catalog } from '../catalog.ts';
import type { SessionToken, SourceOwner, SourceView } from '../sources/source.ts';
import { PROGRAM } from '../version.ts';
import type { Volume } from '../volume.ts';
import type { Incoming } from './incoming.ts';
import type { PageSync } from './page-sync.ts';
import type { SessionPages } from './session-pages.ts';

const COMMIT_ID_BYTES = 16;

export interface FinishedSession {
  readonly volume: Volume;
  readonly owner: SourceOwner;
  readonly view: SourceView;
  readonly catalog: Catalog | undefined;
  readonly base: SessionDirectory | undefined;
  readonly sessionId: string;
  readonly startedMs: number;
  readonly finishedMs: number;
  readonly tags: readonly string[];
  readonly note: string;
  readonly incoming: Incoming;
  readonly pages: PageSync;
  /** Whether what the source froze may be what the next change set counts from. */
  readonly keepsReference: boolean;
}

/** Writes the records and commits. @returns warnings @throws TimebandError and nothing is committed */
export async function commitSession(session: FinishedSession): Promise<string[]> {
  const { volume, incoming, pages, view, sessionId, catalog } = session;
  const manifestDigest = await writeIndexRecords(incoming, pages.index, describeSession(session));
  await writeLabels(incoming, sessionId, newLabels(session));
  const reference = new ReferenceKeeper(session, { sessionId, manifestDigest });
  await reference.bind();
  await incoming.commit(sessionId);
  await catalog?.rememberPages(volume.id, pages.index.newPages);
  await catalog?.rememberNewest(volume.id, { sessionId, manifestDigest });
  await catalog?.rememberSource(volume.id, view);
  return await reference.dropOthers();
}

/** Writes the bitmap, then the manifest, which pins it and the pages. @returns the SHA-256 of the sealed manifest */
export async function writeIndexRecords(
  incoming: Incoming,
  { changed, pageDigests }: Pick<SessionPages, 'changed' | 'pageDigests'>,
  described: Omit<Manifest, 'pageDigests' | 'bitmapDigest' | 'domainId'>,
): Promise<Uint8Array> {
  const at = described.sessionId;
  const bitmapDigest = await incoming.writeRecord(incoming.recordPath('bitmap'), { kind: 'bitmap', at }, changed.encode());
  const domainId = isInDomain(incoming.context) ? incoming.context.keys.domainId : undefined;
  const manifest = manifestCodec.encode({ ...described, pageDigests, bitmapDigest, domainId });
  return await incoming.writeRecord(incoming.recordPath('manifest'), { kind: 'manifest', at }, manifest);
}

/** Writes the labels, if they say anything. */
export async function writeLabels(incoming: Incoming, sessionId: string, labels: Labels): Promise<void> {
  const { tags, note, isProtected, verified } = labels;
  if (tags.length === 0 && note === '' && !isProtected && verified === undefined) return;
  await incoming.writeRecord(incoming.recordPath('labels'), { kind: 'labels', at: sessionId }, labelsCodec.encode(labels));
}

/** Nothing changed: the source's frozen point is as good as the base's, and newer. @returns warnings */
export async function keepUnchanged(
  session: Pick<FinishedSession, 'volume' | 'owner' | 'view' | 'catalog' | 'keepsReference'>,
  base: SessionDirectory | undefined,
): Promise<string[]> {
  await session.catalog?.rememberSource(session.volume.id, session.view);
  if (base === undefined) return [];
  await session.catalog?.rememberNewest(session.volume.id, base);
  const reference = new ReferenceKeeper(session, base);
  await reference.bind();
  return await reference.dropOthers();
}

/** The token of a session, from the SHA-256 of its sealed manifest. */
export function tokenOf(owner: SourceOwner, { sessionId, manifestDigest }: Pick<SessionDirectory, 'sessionId' | 'manifestDigest'>): SessionToken {
  return { ...owner, sessionId, commitId: toHex(manifestDigest.subarray(0, COMMIT_ID_BYTES)) };
}

/** Binds the source's reference around a commit. A reference that cannot be kept costs the next sync time, never the session. */
class ReferenceKeeper {
  readonly #view: SourceView;
  readonly #token: SessionToken;
  readonly #keeps: boolean;
  readonly #warnings: string[] = [];

  constructor(
    { view, owner, keepsReference }: Pick<FinishedSession, 'view' | 'owner' | 'keepsReference'>,
    session: Pick<SessionDirectory, 'sessionId' | 'manifestDigest'>,
  ) {
    this.#view = view;
    this.#keeps = keepsReference;
    this.#token = tokenOf(owner, session);
  }

  async bind(): Promise<void> {
    if (!this.#keeps) return;
    try {
      await this.#view.bind(this.#token);
    } catch (error) {
      this.#warnings.push(`what the next sync needs to know what changed could not be kept, so it will read everything: ${messageOf(error)}`);
    }
  }

  async dropOthers(): Promise<string[]> {
    try {
      this.#warnings.push(...(await this.#view.committed(this.#token)));
    } catch (error) {
      this.#warnings.push(`what an earlier sync kept beside the source could not be removed: ${messageOf(error)}`);
    }
    return this.#warnings;
  }
}

function describeSession({ volume, view, base, pages, ...session }: FinishedSession): Omit<Manifest, 'pageDigests' | 'bitmapDigest' | 'domainId'> {
  const { counts } = pages;
  const { bandBytes, padding, volumeId } = volume.context;
  return {
    sessionId: session.sessionId,
    volumeId,
    sizeBytes: view.sizeBytes,
    bandBytes,
    startedMs: session.startedMs,
    finishedMs: session.finishedMs,
    base: base === undefined ? undefined : { sessionId: base.sessionId, manifestDigest: base.manifestDigest },
    source: { kind: view.kind, location: view.location, host: hostname() },
    totals: {
      bands: bandCountOf(view.sizeBytes, bandBytes),
      zeroBands: counts.zeroBands,
      changedBands: counts.changedBands,
      storedBytes: counts.storedBytes,
      writtenBytes: counts.writtenBytes,
    },
    program: PROGRAM,
    padding,
  };
}

function newLabels({ tags, note }: FinishedSession): Labels {
  return { ...NO_LABELS, tags: [...new Set(tags)].sort(), note };
}
