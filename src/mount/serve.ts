/** Serving one mount in this process until it is unmounted. */
import { parseSessionId } from '../../bands/format/session-id.ts';
import { ReadCache } from '../../bands/store/read-cache.ts';
import type { SessionImageOptions } from '../../bands/store/session-image.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import type { ImageTree } from '../../fuse/image-tree.ts';
import type { Repository } from '../repository.ts';
import { type SessionChoice, serveSession } from '../served-session.ts';
import { PatientTree } from './patient-tree.ts';
import { type ServedMount, serveTree, type TreePlace } from './serve-tree.ts';
import { SessionTree, type SessionTreeOptions } from './session-tree.ts';
import { SingleImageTree } from './single-image-tree.ts';

/** What to serve: everything, or one session. */
export interface ServeRequest extends TreePlace {
  readonly cacheBytes: number | undefined;
  readonly only: SessionChoice | undefined;
  /** Of everything: where scratch overlays are made; undefined: nothing can be written. */
  readonly scratchFolder?: string | undefined;
}

/** @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE, SESSION_NOT_FOUND */
export async function serveMount(repository: Repository, request: ServeRequest, log: (line: string) => void): Promise<ServedMount> {
  const pool = new BandPool(undefined, { servesReaders: true });
  const options = { pool, cache: new ReadCache(request.cacheBytes) };
  const { tree, close } = await (request.only === undefined
    ? allSessions(repository, { ...options, scratchFolder: request.scratchFolder })
    : oneSession(repository, request.only, options)
  ).catch(async (error: unknown) => {
    await pool.close();
    throw error;
  });
  const end = async (): Promise<void> => {
    await pool.close();
    await close();
  };
  return await serveTree({ tree: new PatientTree(tree), label: `timeband:${repository.layout.root}`, end }, request, log);
}

interface OpenedTree {
  readonly tree: ImageTree;
  readonly close: () => Promise<void>;
}

/** Holds those that are open. */
function allSessions(repository: Repository, options: SessionTreeOptions): Promise<OpenedTree> {
  const tree = new SessionTree(repository, options);
  return Promise.resolve({ tree, close: () => tree.close() });
}

/** Holds it for as long as the mount is up. */
async function oneSession(repository: Repository, only: SessionChoice, options: SessionImageOptions): Promise<OpenedTree> {
  const served = await serveSession(repository, only, { ...options, command: 'open' });
  return { tree: new SingleImageTree(served.image, parseSessionId(only.session) ?? 0), close: () => served.close() };
}
