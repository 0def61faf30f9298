/** Repositories for tests that use the library in this process: a cheap key derivation, one pool of workers for a test file. */
import type { ExecutionContext } from 'ava';
import { TimebandError } from '../../bands/errors.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import type { SyncEnvironment, SyncOptions, SyncResult } from '../../src/sync/request.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { PASSPHRASE, type Workspace, workspace } from './workspace.ts';

/** The least that a key slot may ask for: a guess costs a millisecond. */
export const FAST_SCRYPT = { logN: 10, r: 8, p: 1 } as const;
export const BAND_256K = 262_144;

export interface Lab extends Workspace {
  readonly repository: Repository;
  /** Syncs with bands of 256 KiB. */
  sync(name: string, location?: string, options?: Partial<SyncOptions>, environment?: SyncEnvironment): Promise<SyncResult>;
  /** Opens a session; the newest unless said otherwise. */
  session(name: string, spec?: string): Promise<SessionDirectory>;
}

/** A workspace with a repository in it that this process has open. The passphrase is that of the workspace's commands. */
export async function lab(t: ExecutionContext, pool: BandPool): Promise<Lab> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  const repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  t.teardown(() => repository.close());
  return {
    ...ws,
    repository,
    sync: (name, location, options = {}, environment = {}) =>
      syncVolume(repository, { name, location, bandBytes: BAND_256K, ...options }, { pool, ...environment }),
    session: (name, spec) => openNamed(repository, name, spec),
  };
}

/** Makes a repository whose key takes a millisecond to derive; its passphrase is that of the workspace's commands. */
export async function makeFastRepository(root: string): Promise<void> {
  await Repository.init(root, { passphrase: PASSPHRASE, scrypt: FAST_SCRYPT });
}

export async function openNamed(repository: Repository, name: string, spec?: string): Promise<SessionDirectory> {
  const volume = await repository.volume(name);
  return await volume.openSession(await volume.resolve(spec));
}

/** The code of the TimebandError that `work` throws; another error is thrown on, none is undefined. */
export async function codeOf(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof TimebandError) return error.code;
    throw error;
  }
}
