/** What a repository holds, as readers see it, and what of it must never change. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { toHex } from '../../bands/format/bytes.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { parseMountinfo } from '../../fuse/mount-table.ts';
import { checkRepository } from '../../src/check/check.ts';
import type { Repository } from '../../src/repository.ts';
import { streamSession } from '../../src/restore.ts';
import type { Volume } from '../../src/volume.ts';

/** The labels that commands change; when a session was verified is not among them. */
export interface LabelState {
  readonly tags: readonly string[];
  readonly note: string;
  readonly isProtected: boolean;
}

export interface SessionState {
  readonly id: string;
  /** SHA-256 of the image, in hex. */
  readonly digest: string;
  readonly labels: LabelState;
}

export interface VolumeState {
  readonly id: string;
  readonly name: string;
  readonly note: string;
  /** Oldest first. */
  readonly sessions: readonly SessionState[];
}

/** By volume id. */
export type RepositoryState = ReadonlyMap<string, VolumeState>;

export class Violation extends Error {
  override readonly name = 'Violation';
}

export function violated(message: string): never {
  throw new Violation(message);
}

/**
 * Reads all that the repository holds and verifies every byte of it. @throws Violation if anything cannot be read
 * @param digests of sessions that were restored before, by the SHA-256 of their manifest: that pins the index, which pins
 *   the bytes, and `check --data` holds the bytes against the index
 */
export async function observe(repository: Repository, pool: BandPool, digests: Map<string, string> = new Map()): Promise<RepositoryState> {
  const { volumes, damaged } = await repository.listVolumes();
  if (damaged.length > 0) violated(`volumes cannot be read: ${damaged.map(({ error }) => error.message).join('; ')}`);
  const state = new Map<string, VolumeState>();
  for (const volume of volumes) {
    const sessions: SessionState[] = [];
    for (const id of await volume.sessionIds()) sessions.push(await observeSession(volume, id, { pool, digests }));
    state.set(volume.id, { id: volume.id, name: volume.name, note: volume.record.note, sessions });
  }
  const { findings } = await checkRepository(repository, { pool, withData: true });
  if (findings.length > 0) violated(`check --data: ${findings.map(({ message }) => message).join('; ')}`);
  return state;
}

async function observeSession(
  volume: Volume,
  id: string,
  { pool, digests }: { readonly pool: BandPool; readonly digests: Map<string, string> },
): Promise<SessionState> {
  const { tags, note, isProtected } = await volume.readLabels(id);
  const key = toHex((await volume.openSession(id)).manifestDigest);
  const digest = digests.get(key) ?? (await digestOfSession(volume, id, pool));
  digests.set(key, digest);
  return { id, digest, labels: { tags, note, isProtected } };
}

/** SHA-256 of a session's image, restored. */
export async function digestOfSession(volume: Volume, id: string, pool: BandPool): Promise<string> {
  const hash = createHash('sha256');
  const session = await volume.openSession(id);
  await streamSession({ session, pool, write: async (bytes) => void hash.update(bytes) });
  return hash.digest('hex');
}

/** What is left of unfinished work in a repository, as paths; `volumeId`: only of that volume and the trash. */
export function leftovers(root: string, volumeId?: string): string[] {
  const volumes = readdirSync(path.join(root, 'volumes'));
  const unfinished = (folder: string, isAny: boolean): string[] =>
    readdirSync(path.join(root, folder))
      .filter((name) => isAny || name.startsWith('.tmp-'))
      .map((name) => path.join(folder, name));
  return [
    ...unfinished('trash', true),
    ...(volumeId === undefined ? unfinished('volumes', false) : []),
    ...volumes
      .filter((id) => !id.startsWith('.tmp-') && (volumeId === undefined || id === volumeId))
      .flatMap((id) => [...unfinished(path.join('volumes', id, 'incoming'), true), ...unfinished(path.join('volumes', id, 'sessions'), false)]),
  ];
}

/** Mount points below a folder. */
export function mountsBelow(folder: string): string[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))
    .map(({ mountPoint }) => mountPoint)
    .filter((mountPoint) => mountPoint.startsWith(`${folder}/`));
}
