/** A session that is being written: volumes/ID/incoming/XXXX/, never read as a session, until one rename commits it. */
import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { nodePrimitives } from '../../bands/crypto/node-primitives.ts';
import { ioError, messageOf, TimebandError } from '../../bands/errors.ts';
import { decodeName, encodeNames } from '../../bands/format/names.ts';
import { RECORD_NONCE_BYTES, type RecordPlace, sealRecord } from '../../bands/format/record.ts';
import {
  createDirectory,
  listDirectory,
  requireRealDirectory,
  statIfPresent,
  syncDirectory,
  syncFileSystem,
  tryToRemove,
  writeNewFile,
} from '../../bands/store/files.ts';
import { SESSION_FILES, type VolumeContext } from '../../bands/store/session-directory.ts';
import { removeTree } from '../deletion/trash.ts';
import type { Volume } from '../volume.ts';

export class Incoming {
  readonly directory: string;
  readonly #volume: Volume;

  private constructor(volume: Volume, directory: string) {
    this.#volume = volume;
    this.directory = directory;
  }

  /** Goes on with the band files that an earlier process left under that name, or begins it. They are to be proven, not trusted. */
  static async resume(volume: Volume, name: string): Promise<Incoming> {
    const incoming = new Incoming(volume, path.join(volume.layout.incoming, name));
    const bands = path.join(incoming.directory, SESSION_FILES.bands);
    for (const directory of [volume.layout.incoming, incoming.directory]) {
      await requireRealDirectory(directory);
      await createDirectory(directory, { allowExisting: true });
    }
    for (const part of await listDirectory(incoming.directory))
      if (part !== SESSION_FILES.bands) await removeTree(path.join(incoming.directory, part));
    await requireRealDirectory(bands);
    await createDirectory(bands, { allowExisting: true });
    await createDirectory(path.join(incoming.directory, SESSION_FILES.index));
    return incoming;
  }

  /** Whether an earlier process left band files; meaningful before any is written. */
  async hasBands(): Promise<boolean> {
    return (await listDirectory(path.join(this.directory, SESSION_FILES.bands))).length > 0;
  }

  /** Removes band files of band `end` and later: what an interrupted sync of a larger volume left. */
  async removeBandsFrom(end: number): Promise<void> {
    const directory = path.join(this.directory, SESSION_FILES.bands);
    for (const name of await listDirectory(directory)) {
      const bandIndex = decodeName(nodePrimitives, this.context.keys.namesKey, { kind: 'band', name });
      if (bandIndex === undefined || bandIndex >= end) await removeTree(path.join(directory, name));
    }
  }

  /** After a failure: keeps the band files for the next run, if there are any. @returns how many */
  async keep(): Promise<number> {
    const bands = await listDirectory(path.join(this.directory, SESSION_FILES.bands)).catch(() => []); // a disk that fails keeps what it keeps
    if (bands.length === 0) await this.discard().catch(() => undefined);
    return bands.length;
  }

  get context(): VolumeContext {
    return this.#volume.context;
  }

  /** Paths of the band files of `count` bands from `first`. */
  bandPaths(first: number, count: number): string[] {
    const directory = path.join(this.directory, SESSION_FILES.bands);
    return encodeNames(nodePrimitives, this.context.keys.namesKey, { kind: 'band', first, count }).map((name) => `${directory}/${name}`);
  }

  recordPath(record: 'bitmap' | 'manifest' | 'labels'): string {
    return path.join(this.directory, SESSION_FILES[record]);
  }

  pagePath(pageNumber: number): string {
    const [name] = encodeNames(nodePrimitives, this.context.keys.namesKey, { kind: 'page', first: pageNumber, count: 1 });
    return path.join(this.directory, SESSION_FILES.index, name ?? '');
  }

  /** Seals and writes a record. It becomes durable with the commit. @returns the SHA-256 of the sealed file */
  async writeRecord(file: string, place: Omit<RecordPlace, 'volumeId'>, plain: Uint8Array): Promise<Uint8Array> {
    const { keys, volumeId } = this.context;
    const sealed = sealRecord(keys.recordsKey, { ...place, volumeId }, { nonce: randomBytes(RECORD_NONCE_BYTES), plain });
    await writeNewFile(file, sealed, { isDurable: false });
    return nodePrimitives.sha256(sealed);
  }

  /** Makes everything durable and renames it to a session: the commit. @throws TimebandError IO_ERROR and nothing is committed, unless it says so */
  async commit(sessionId: string): Promise<void> {
    const target = this.#volume.sessionPath(sessionId);
    if ((await statIfPresent(target)) !== undefined)
      throw new TimebandError(`${target} exists already; nothing was committed.`, { code: 'IO_ERROR', path: target });
    try {
      await syncFileSystem(this.directory);
    } catch (error) {
      if (!isStopped(error)) await this.discard(); // Linux takes for written what it failed to write: read back, it would seem to be there, and be adopted
      throw error;
    }
    try {
      await rename(this.directory, target);
    } catch (error) {
      throw ioError(error, 'commit the session to', target);
    }
    try {
      await syncDirectory(this.#volume.layout.sessions);
    } catch (cause) {
      throw new TimebandError(
        `session ${sessionId} is in its place and whole, but may not outlive a power cut: ${messageOf(cause)}. When that is mended, run sync with --force.`,
        { code: cause instanceof TimebandError ? cause.code : 'IO_ERROR', cause, path: this.#volume.layout.sessions },
      );
    }
  }

  /** Never fails: what led to it is to be told, and what cannot be removed now, the next sync removes. */
  async discard(): Promise<void> {
    await tryToRemove(this.directory);
  }
}

/** Whether the program that makes durable was stopped (Ctrl-C reaches it, too): that says nothing of the disk. */
function isStopped(error: unknown): boolean {
  const cause = error instanceof TimebandError ? error.cause : undefined;
  return typeof cause === 'object' && cause !== null && 'signal' in cause && typeof cause.signal === 'string';
}

/** Removes what writers that were killed left, but for `except`. The caller holds the volume's lock, so nobody is writing there. */
export async function clearIncoming(volume: Volume, except?: string): Promise<number> {
  const names = (await listDirectory(volume.layout.incoming)).filter((name) => name !== except);
  for (const name of names) await removeTree(path.join(volume.layout.incoming, name));
  return names.length;
}

/** What an interrupted writer left of band files under `name`, as far as it can be seen. */
export async function measureKept(volume: Volume, name: string): Promise<{ readonly bytes: number; readonly inodes: number }> {
  const directory = path.join(volume.layout.incoming, name, SESSION_FILES.bands);
  let [bytes, inodes] = [0, 0];
  for (const band of await listDirectory(directory)) {
    const stat = await statIfPresent(path.join(directory, band));
    if (stat?.isFile() !== true || stat.nlink > 1) continue; // more links: of an earlier session, too
    bytes += stat.size;
    inodes++;
  }
  return { bytes, inodes };
}
