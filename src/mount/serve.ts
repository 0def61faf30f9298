/** Serving one mount in this process until it is unmounted. */
import { ReadCache } from '../../bands/store/read-cache.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { TreeMount } from '../../fuse/tree-mount.ts';
import { Lease } from '../leases.ts';
import type { Repository } from '../repository.ts';
import { PatientTree } from './patient-tree.ts';
import { SessionTree } from './session-tree.ts';
import { SingleImageTree } from './single-image-tree.ts';

/** What to serve: everything, or one session. */
export interface ServeRequest {
  readonly mountPoint: string;
  readonly allowOther: boolean;
  readonly cacheBytes: number | undefined;
  readonly only: { readonly volume: string; readonly session: string } | undefined;
}

export interface ServedMount {
  readonly mountPoint: string;
  readonly gone: Promise<void>;
  /** @throws TimebandError MOUNT_BUSY and it stays up */
  down(): Promise<void>;
}

/** @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE, SESSION_NOT_FOUND */
export async function serveMount(repository: Repository, request: ServeRequest, log: (line: string) => void): Promise<ServedMount> {
  const lease = await takeLease(repository, request.only);
  const pool = new BandPool();
  const end = async (): Promise<void> => {
    await pool.close();
    await lease?.release();
  };
  try {
    const cache = new ReadCache(request.cacheBytes);
    const options = { pool, cache };
    const { only } = request;
    const tree =
      only === undefined
        ? new SessionTree(repository, options)
        : new SingleImageTree(await (await repository.volume(only.volume)).openSession(only.session), options);
    const mount = await TreeMount.up({
      mountPoint: request.mountPoint,
      tree: new PatientTree(tree),
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

/** A mount of one session holds it for as long as it is up; one of all sessions holds those that are open. */
async function takeLease(repository: Repository, only: ServeRequest['only']): Promise<Lease | undefined> {
  if (only === undefined) return undefined;
  const volume = await repository.volume(only.volume);
  const { locks } = repository.layout;
  return await Lease.take({
    locks,
    volume: volume.name,
    volumeId: volume.id,
    sessionId: only.session,
    command: 'open',
  });
}
