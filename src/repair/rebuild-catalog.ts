/** The catalog's caches of a volume, made anew from the repository. What this machine has seen is no cache and stays. */

import type { Catalog } from '../catalog.ts';
import { summarizeSessions } from '../sessions.ts';
import { MAX_REMEMBERED_PAGES, type RememberedPage } from '../sync/session-pages.ts';
import { SharedBands } from '../sync/shared-bands.ts';
import type { Volume } from '../volume.ts';

export async function rebuildCatalog(volume: Volume, catalog: Catalog | undefined): Promise<void> {
  if (catalog === undefined) return;
  await catalog.dropCaches(volume.id);
  await SharedBands.forget(volume, catalog); // the next sync into the key domain gathers them
  await summarizeSessions(volume, { catalog }).catch(() => []); // reads every manifest into it; a folder that is missing was reported
  const newest = (await volume.sessionIds().catch(() => [])).at(-1);
  const session = newest === undefined ? undefined : await volume.openSession(newest).catch(() => undefined);
  const pages = new Map<number, RememberedPage>();
  for (let page = 0; session !== undefined && page < Math.min(session.pageCount, MAX_REMEMBERED_PAGES); page++) {
    const entries = await session.readPageFile(page).catch(() => undefined);
    const digest = session.manifest.pageDigests[page];
    if (entries !== undefined && digest !== undefined) pages.set(page, { digest, entries });
  }
  await catalog.rememberPages(volume.id, pages);
}
