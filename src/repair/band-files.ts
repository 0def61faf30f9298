/** Which files hold a band: those of all sessions of a volume whose index names the same sealing, or the same content. */

import { errnoOf, type TimebandError } from '../../bands/errors.ts';
import { ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import type { StoredBand } from '../../bands/format/index-page.ts';
import { parseSessionId } from '../../bands/format/session-id.ts';
import { statIfPresentSync } from '../../bands/store/files.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import type { BandKeyMaterial } from '../../bands/workers/tasks.ts';
import { isDamage } from '../damage-log.ts';
import type { Volume } from '../volume.ts';

/** A band of a session, and where its file is, or should be. */
export interface BandFile {
  readonly sessionId: string;
  readonly file: string;
  readonly band: StoredBand;
}

/** Finds the files of a band in all sessions of a volume. Bands that are asked for in order share what is read of the sessions. */
export class BandFinder {
  readonly #volume: Volume;
  /** The sessions as they were opened for an index page: what they keep of it is let go of with them. */
  #opened: { readonly page: number; readonly sessions: readonly SessionDirectory[] } | undefined;

  constructor(volume: Volume) {
    this.#volume = volume;
  }

  /** Its files, those of the oldest session first. Sessions and index pages that cannot be read are passed over. */
  async find(bandIndex: number): Promise<BandFile[]> {
    const files: BandFile[] = [];
    for (const session of await this.#sessionsFor(Math.floor(bandIndex / ENTRIES_PER_PAGE))) {
      const band = await session.readBandEntry(bandIndex).catch(() => undefined);
      if (band === undefined) continue;
      files.push({ sessionId: session.sessionId, file: session.bandPaths(bandIndex, 1)[0] ?? '', band: copyOf(band) });
    }
    return files;
  }

  async #sessionsFor(page: number): Promise<readonly SessionDirectory[]> {
    if (this.#opened?.page === page) return this.#opened.sessions;
    const sessions: SessionDirectory[] = [];
    for (const id of await this.#volume.sessionIds()) {
      const session = await this.#volume.openSession(id).catch(() => undefined);
      if (session !== undefined) sessions.push(session);
    }
    this.#opened = { page, sessions };
    return sessions;
  }
}

/** Entries are views of an index page, which is not kept for them. */
function copyOf({ salt, fileBytes, fingerprint, digest }: StoredBand): StoredBand {
  return { salt: salt.slice(), fileBytes, fingerprint: fingerprint.slice(), digest: digest.slice() };
}

/** Reads band files to the end and remembers, by inode and sealing, which are whole. */
export class BandProver {
  readonly #pool: BandPool;
  readonly #keys: BandKeyMaterial;
  readonly #known = new Map<string, boolean>();

  constructor(pool: BandPool, keys: BandKeyMaterial) {
    this.#pool = pool;
    this.#keys = keys;
  }

  /** Whether a file is, to its last byte, the sealing that the index names. @throws TimebandError if that cannot be told (too many open files …) */
  async isWhole({ file, band }: Pick<BandFile, 'file' | 'band'>): Promise<boolean> {
    const stat = statIfPresentSync(file);
    if (stat === undefined) return false;
    const key = `${stat.dev}:${stat.ino}:${stat.ctimeNs} ${Buffer.from(band.salt).toString('latin1')}`;
    const known = this.#known.get(key) ?? (await this.#prove(file, band));
    this.#known.set(key, known);
    return known;
  }

  async #prove(file: string, band: StoredBand): Promise<boolean> {
    try {
      await this.#pool.run('checkBand', { keys: this.#keys, file, band, withData: true });
      return true;
    } catch (error) {
      if (isLost(error)) return false;
      throw error;
    }
  }
}

/** What the system says of files that are lost, or that no disk gives back. */
const LOST_ERRNOS: ReadonlySet<string> = new Set(['ENOENT', 'EIO', 'EISDIR', 'ENOTDIR', 'ELOOP', 'ENXIO']);

/** Whether an error says that a file is lost, or cannot be read by anybody: not one of permissions or of this system's limits. */
export function isLost(error: unknown): error is TimebandError {
  return isDamage(error) && (error.code !== 'IO_ERROR' || LOST_ERRNOS.has(errnoOf(error.cause) ?? ''));
}

/** When the file of a band was written, in seconds since 1970: as the file says, unless a session that has it is older. */
export function writtenAtSeconds(files: readonly BandFile[]): number {
  const times = files.flatMap(({ file, sessionId }) => {
    const stat = statIfPresentSync(file);
    const sessionMs = parseSessionId(sessionId) ?? Number.POSITIVE_INFINITY;
    return stat?.isFile() === true ? [Number(stat.mtimeNs) / 1e6, sessionMs] : [sessionMs];
  });
  return Math.min(...times) / 1000;
}
