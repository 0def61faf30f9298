/** Mending a session's bitmap and index pages: the manifest pins both, so whatever has the right digest is right. */
import path from 'node:path';
import { nodePrimitives } from '../../bands/crypto/node-primitives.ts';
import { equalBytes, toHex } from '../../bands/format/bytes.ts';
import { statIfPresentSync, writeNewFile } from '../../bands/store/files.ts';
import { SESSION_FILES, type SessionDirectory } from '../../bands/store/session-directory.ts';
import { isLost } from './band-files.ts';
import { deriveBitmap, derivePage } from './derive-index.ts';
import { type Candidate, copied, firstProven, readRemains, reframed, resealed } from './record-candidates.ts';
import { inCopy, type RepairJob } from './repair-job.ts';

/** Mends the bitmap, if it is damaged and can be had back. */
export async function repairBitmap(job: RepairJob, session: SessionDirectory): Promise<void> {
  try {
    await session.readBitmap();
    return;
  } catch (error) {
    if (!isLost(error)) throw error;
  }
  const { volume, workshop, log } = job;
  const { sessionId, manifest, context } = session;
  const file = path.join(session.directory, SESSION_FILES.bitmap);
  const remains = await readRemains(file);
  const found = await firstProven(
    [
      () => reframed(remains),
      () => copied(inCopy(job, sessionId, SESSION_FILES.bitmap)),
      async () =>
        resealed(context, { kind: 'bitmap', at: sessionId }, { remains, plain: await deriveBitmap(volume, session), how: 'from the indexes' }),
    ],
    (bytes) => equalBytes(nodePrimitives.sha256(bytes), manifest.bitmapDigest),
  );
  if (found === undefined) return;
  const made = workshop.newPath();
  await writeNewFile(made, found.bytes);
  await workshop.install(made, file);
  log.note({ volume: volume.name, session: sessionId }, 'bitmap', found.how);
}

/** Mends index pages. One object for all sessions of a volume, which share pages. */
export class PageRepair {
  readonly #job: RepairJob;
  /** Files that were found whole, by inode and the digest that is expected of it. */
  readonly #whole = new Set<string>();

  constructor(job: RepairJob) {
    this.#job = job;
  }

  /** Mends the pages of a session that are damaged and can be had back, for all sessions that share them. */
  async repair(session: SessionDirectory, all: readonly string[]): Promise<void> {
    for (let page = 0; page < session.pageCount; page++) {
      if (!(await this.#isWhole(session, page))) await this.#job.log.attempt(() => this.#repairPage(session, page, all));
    }
  }

  async #repairPage(session: SessionDirectory, page: number, all: readonly string[]): Promise<void> {
    const { volume, workshop, log } = this.#job;
    const sharing = await this.#sharing(session, page, all);
    const made = await this.#make(session, page, sharing);
    if (made === undefined) return;
    for (const one of sharing) {
      if (await this.#isWhole(one, page)) continue;
      await workshop.install(made.file, one.pagePath(page));
      log.note({ volume: volume.name, session: one.sessionId }, `index page ${page}`, made.how);
    }
  }

  async #isWhole(session: SessionDirectory, page: number): Promise<boolean> {
    const stat = statIfPresentSync(session.pagePath(page));
    const key = `${stat?.dev}:${stat?.ino} ${toHex(digestOf(session, page))}`;
    if (stat !== undefined && this.#whole.has(key)) return true;
    const isWhole = await session.isPageFileIntact(page);
    if (isWhole) this.#whole.add(key);
    return isWhole;
  }

  /** The sessions that have the same page, as far as they can be opened. */
  async #sharing(session: SessionDirectory, page: number, all: readonly string[]): Promise<SessionDirectory[]> {
    const sharing: SessionDirectory[] = [];
    for (const id of all) {
      const one = await this.#job.volume.openSession(id).catch(() => undefined);
      if (one !== undefined && page < one.pageCount && equalBytes(digestOf(one, page), digestOf(session, page))) sharing.push(one);
    }
    return sharing;
  }

  async #make(session: SessionDirectory, page: number, sharing: readonly SessionDirectory[]): Promise<{ file: string; how: string } | undefined> {
    for (const one of sharing) if (await this.#isWhole(one, page)) return { file: one.pagePath(page), how: 'from a copy in another session' };
    const found = await this.#find(session, page, sharing);
    if (found === undefined) return undefined;
    const file = this.#job.workshop.newPath();
    await writeNewFile(file, found.bytes);
    return { file, how: found.how };
  }

  async #find(session: SessionDirectory, page: number, sharing: readonly SessionDirectory[]): Promise<Candidate | undefined> {
    const { volume, catalog, pool } = this.#job;
    const digest = digestOf(session, page);
    const remains = await readRemains(session.pagePath(page));
    const place = { kind: 'page', at: page } as const;
    return await firstProven(
      [
        () => reframed(remains),
        ...sharing.map((one) => () => copied(inCopy(this.#job, one.sessionId, path.relative(one.directory, one.pagePath(page))))),
        async () => {
          const plain = await catalog?.pageCache(volume.id).get(page, digest);
          return resealed(session.context, place, { remains, plain, how: 'from what the catalog remembers of it' });
        },
        async () =>
          resealed(session.context, place, { remains, plain: await derivePage({ volume, pool }, session, page), how: 'from the band files' }),
      ],
      (bytes) => equalBytes(nodePrimitives.sha256(bytes), digest),
    );
  }
}

function digestOf({ manifest }: SessionDirectory, page: number): Uint8Array {
  return manifest.pageDigests[page] ?? new Uint8Array(0);
}
