/** Serving one mount in this process until it is unmounted. */
import { parseSessionId } from '../../bands/format/session-id.ts';
import { ReadCache } from '../../bands/store/read-cache.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { TreeMount } from '../../fuse/tree-mount.ts';
import type { Repository } from '../repository.ts';
import { type SessionChoice, serveSession } from '../served-session.ts';
import { PatientTree } from './patient-tree.ts';
import { SessionTree } from './session-tree.ts';
import { SingleImageTree } from './single-image-tree.ts';

/** What to serve: everything, or one session. */
export interface ServeRequest {
  readonly mountPoint: string;
  readonly allowOther: boolean;
  readonly cacheBytes: number | undefined;
  readonly only: SessionChoice | undefined;
  /** Of everything: where scratch overlays are made; undefined: nothing can be written. */
  readonly scratchFolder?: string | undefined;
}

export interface ServedMount {
  readonly mountPoint: string;
  readonly gone: Promise<void>;
  /** @throws TimebandError MOUNT_BUSY and it stays up */
  down(): Promise<void>;
}

/** @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE, SESSION_NOT_FOUND */
export async function serveMount(repository: Repository, request: ServeRequest, log: (line: string) => void): Promise<ServedMount> {
  const pool = new BandPool();
  const options = { pool, cache: new ReadCache(request.cacheBytes) };
  const { only } = request;
  /** A mount of one session holds it for as long as it is up; one of all sessions holds those that are open. */
  const served = only && (await serveSession(repository, only, { ...options, command: 'open' }).catch(closeFirst(pool)));
  const sessions = new SessionTree(repository, { ...options, scratchFolder: request.scratchFolder });
  const end = async (): Promise<void> => {
    await pool.close();
    await sessions.close();
    await served?.close();
  };
  try {
    const mount = await TreeMount.up({
      mountPoint: request.mountPoint,
      tree: new PatientTree(only && served ? new SingleImageTree(served.image, parseSessionId(only.session) ?? 0) : sessions),
      label: `timeband:${repository.layout.root}`,
      allowOther: request.allowOther,
      onError: (operation, path, error) => log(`${operation} ${path}: ${error instanceof Error ? error.message : String(error)}`),
    });
    const gone = mount.gone.finally(end);
    return {
      mountPoint: mount.mountPoint,
      gone,
      async down() {
        await mount.down();
        await gone;
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

function closeFirst(pool: BandPool): (error: unknown) => Promise<never> {
  return async (error) => {
    await pool.close();
    throw error;
  };
}
