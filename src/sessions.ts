/** What a volume and its sessions are, for lists; manifests come from the catalog where it has them. */
import path from 'node:path';
import { messageOf } from '../bands/errors.ts';
import type { Labels } from '../bands/format/labels.ts';
import { type Manifest, manifestCodec } from '../bands/format/manifest.ts';
import { statIfPresent } from '../bands/store/files.ts';
import { SESSION_FILES } from '../bands/store/session-directory.ts';
import type { Catalog } from './catalog.ts';
import { type SessionSizes, sessionSizes } from './deletion/sizes.ts';
import type { Volume } from './volume.ts';

export interface SessionSummary {
  readonly volume: string;
  readonly session: string;
  readonly manifest: Manifest | undefined;
  readonly labels: Labels | undefined;
  /** Undefined if they were not asked for, or an index cannot be read. */
  readonly sizes: SessionSizes | undefined;
  /** Why the manifest or labels cannot be read. */
  readonly problem: string | undefined;
}

/** The sessions of a volume, oldest first; a damaged one is listed with its problem. */
export async function summarizeSessions(
  volume: Volume,
  { catalog, withSizes = false }: { readonly catalog?: Catalog | undefined; readonly withSizes?: boolean } = {},
): Promise<SessionSummary[]> {
  const sizes = withSizes ? await sessionSizes(volume) : undefined;
  const summaries: SessionSummary[] = [];
  for (const session of await volume.sessionIds()) summaries.push({ ...(await summarize(volume, session, catalog)), sizes: sizes?.get(session) });
  return summaries;
}

async function summarize(volume: Volume, session: string, catalog: Catalog | undefined): Promise<Omit<SessionSummary, 'sizes'>> {
  const known = { volume: volume.name, session };
  try {
    const manifest = await readManifest(volume, session, catalog);
    return { ...known, manifest, labels: await volume.readLabels(session), problem: undefined };
  } catch (error) {
    return { ...known, manifest: undefined, labels: undefined, problem: messageOf(error) };
  }
}

/** A manifest, from the catalog if it was kept for exactly this file (inode, size, time), else through its seal. */
async function readManifest(volume: Volume, session: string, catalog: Catalog | undefined): Promise<Manifest> {
  const stat = await statIfPresent(path.join(volume.sessionPath(session), SESSION_FILES.manifest));
  const stamp = stat === undefined ? undefined : `${stat.ino} ${stat.size} ${stat.mtimeMs}`;
  const cached = stamp === undefined ? undefined : await catalog?.manifest(volume.id, session, stamp);
  if (cached !== undefined) return manifestCodec.decode(cached);
  const { manifest } = await volume.openSession(session);
  if (stamp !== undefined) await catalog?.rememberManifest(volume.id, session, { stamp, plain: manifestCodec.encode(manifest) });
  return manifest;
}
