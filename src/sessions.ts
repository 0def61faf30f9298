/** What a volume and its sessions are, for lists. What was read once comes from the catalog: a long list opens no session then. */
import path from 'node:path';
import { messageOf, TimebandError } from '../bands/errors.ts';
import type { Labels } from '../bands/format/labels.ts';
import { type Manifest, manifestCodec } from '../bands/format/manifest.ts';
import { statIfPresent } from '../bands/store/files.ts';
import { SESSION_FILES } from '../bands/store/session-directory.ts';
import { forEachBounded } from '../bands/workers/bounded.ts';
import type { Catalog } from './catalog.ts';
import { keepOpen, type OpenSession, type SessionSizes, sizesAt } from './deletion/sizes.ts';
import { type KeptFacts, keptFactsCodec, type SessionFacts } from './session-facts.ts';
import type { Volume } from './volume.ts';

export interface SessionSummary {
  readonly volume: string;
  readonly session: string;
  readonly manifest: SessionFacts | undefined;
  readonly labels: Labels | undefined;
  /** Undefined if they were not asked for, or an index cannot be read. */
  readonly sizes: SessionSizes | undefined;
  /** Why the manifest or labels cannot be read. */
  readonly problem: string | undefined;
}

export interface SummaryOptions {
  readonly catalog?: Catalog | undefined;
  readonly withSizes?: boolean;
}

/** Sessions that are looked at at once; the index pages of some of them are in memory. */
const AT_ONCE = 4;

/** The sessions of a volume, oldest first; a damaged one is listed with its problem. */
export async function summarizeSessions(volume: Volume, { catalog, withSizes = false }: SummaryOptions = {}): Promise<SessionSummary[]> {
  const ids = await volume.sessionIds();
  const list = new SessionList(volume, { ids, stamps: await stampsOf(volume, ids), withSizes, kept: await readKept(volume, ids, catalog) });
  const summaries: SessionSummary[] = [];
  await forEachBounded(ids.keys(), AT_ONCE, async (at) => {
    summaries[at] = await list.summarize(at);
  });
  await catalog?.rememberManifests(volume.id, list.manifests);
  await catalog?.rememberSessions(volume.id, list.fresh);
  return await withoutDeleted(volume, summaries);
}

/** Without the sessions that were deleted while they were looked at: they are not damaged. */
async function withoutDeleted(volume: Volume, summaries: readonly SessionSummary[]): Promise<SessionSummary[]> {
  if (summaries.every(({ problem }) => problem === undefined)) return [...summaries];
  const ids = new Set(await volume.sessionIds());
  return summaries.filter(({ session, problem }) => problem === undefined || ids.has(session));
}

/** What tells a manifest file from another at its place: inode, size and time. Undefined: there is none. */
async function stampsOf(volume: Volume, ids: readonly string[]): Promise<(string | undefined)[]> {
  const stamps: (string | undefined)[] = [];
  await forEachBounded(ids.entries(), AT_ONCE, async ([at, id]) => {
    const stat = await statIfPresent(path.join(volume.sessionPath(id), SESSION_FILES.manifest));
    stamps[at] = stat === undefined ? undefined : `${stat.ino} ${stat.size} ${stat.mtimeMs}`;
  });
  return stamps;
}

/** What the catalog has of these sessions; an entry that cannot be read is none. */
async function readKept(volume: Volume, ids: readonly string[], catalog: Catalog | undefined): Promise<Map<string, KeptFacts>> {
  const kept = new Map<string, KeptFacts>();
  for (const [id, bytes] of (await catalog?.sessions(volume.id, ids)) ?? []) {
    try {
      kept.set(id, keptFactsCodec.decode(bytes));
    } catch (error) {
      if (!(error instanceof TimebandError)) throw error;
    }
  }
  return kept;
}

interface Known {
  readonly ids: readonly string[];
  readonly stamps: readonly (string | undefined)[];
  readonly withSizes: boolean;
  readonly kept: ReadonlyMap<string, KeptFacts>;
}

class SessionList {
  /** What the catalog does not have yet. */
  readonly fresh: Map<string, Uint8Array> = new Map();
  /** Manifests that were read: a repair may need them. */
  readonly manifests: Map<string, Uint8Array> = new Map();
  readonly #volume: Volume;
  readonly #known: Known;
  readonly #open: OpenSession;

  constructor(volume: Volume, known: Known) {
    this.#volume = volume;
    this.#known = known;
    this.#open = keepOpen(volume);
  }

  async summarize(at: number): Promise<SessionSummary> {
    const session = this.#known.ids[at] ?? '';
    const summary = { volume: this.#volume.name, session };
    try {
      const { facts, sizes } = await this.#look(at, session);
      return { ...summary, manifest: facts, sizes, labels: await this.#volume.readLabels(session), problem: undefined };
    } catch (error) {
      return { ...summary, manifest: undefined, sizes: undefined, labels: undefined, problem: messageOf(error) };
    }
  }

  /** From the catalog, if it was kept for exactly these files, else through the seals. */
  async #look(at: number, session: string): Promise<{ readonly facts: SessionFacts; readonly sizes: SessionSizes | undefined }> {
    const { ids, stamps, kept, withSizes } = this.#known;
    const stamp = stamps[at];
    const found = kept.get(session);
    const known = stamp !== undefined && found?.stamp === stamp ? found : undefined;
    const neighbours = [at - 1, at + 1].map((i) => `${ids[i] ?? ''} ${stamps[i] ?? ''}`).join(' | ');
    const knownSizes = known?.sizes?.neighbours === neighbours ? known.sizes.of : undefined;
    if (known !== undefined && (knownSizes !== undefined || !withSizes)) return { facts: known.facts, sizes: withSizes ? knownSizes : undefined };
    const facts = known?.facts ?? (await this.#readManifest(session));
    const sizes = withSizes ? await sizesAt(ids, at, this.#open) : undefined;
    const isLasting = this.#volume.record.domain === undefined; // else other volumes' sessions change them, too
    const keptSizes = sizes === undefined || !isLasting ? undefined : { neighbours, of: sizes };
    if (stamp !== undefined) this.fresh.set(session, keptFactsCodec.encode({ stamp, facts, sizes: keptSizes }));
    return { facts, sizes };
  }

  async #readManifest(session: string): Promise<Manifest> {
    const { manifest } = await this.#open(session);
    this.manifests.set(session, manifestCodec.encode(manifest));
    return manifest;
  }
}
