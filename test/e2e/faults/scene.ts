/** A repository on a faulty file system, with sessions whose content is known, and what must hold of it whatever has failed. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { toHex } from '../../../bands/format/bytes.ts';
import type { SessionDirectory } from '../../../bands/store/session-directory.ts';
import type { BandPool } from '../../../bands/workers/band-pool.ts';
import { Catalog } from '../../../src/catalog.ts';
import { checkRepository } from '../../../src/check/check.ts';
import { changeLabels } from '../../../src/labels.ts';
import { repositoryLayout } from '../../../src/layout.ts';
import { Repository } from '../../../src/repository.ts';
import { readConfig } from '../../../src/repository-config.ts';
import { streamSession } from '../../../src/restore.ts';
import { syncVolume } from '../../../src/sync/sync.ts';
import { fill } from '../../support/bytes.ts';
import type { FaultyFs } from '../../support/faulty-fs/faulty-fs.ts';
import { BAND_256K, makeFastRepository } from '../../support/library.ts';
import { PASSPHRASE } from '../../support/workspace.ts';

/** A little of each band is data: what is written then takes one write for each file. */
const DATA_BYTES = 6000;
const GONE = 'gone';

export interface KnownSession {
  readonly volume: string;
  readonly id: string;
  readonly digest: string;
}

/** A repository that is open, as a command has it. */
export interface Opened {
  readonly scene: Scene;
  readonly repository: Repository;
  readonly catalog: Catalog;
}

export interface SceneParts {
  readonly fs: FaultyFs;
  readonly pool: BandPool;
  /** A folder in memory, for what is backed up and for copies. */
  readonly scratch: string;
}

export class Scene {
  readonly fs: FaultyFs;
  readonly pool: BandPool;
  /** What is backed up; on a file system that does not fail. */
  readonly image: string;
  readonly root: string;
  readonly repo: string;
  readonly state: string;
  known: readonly KnownSession[] = [];
  readonly #parts: SceneParts;

  private constructor(parts: SceneParts, root: string) {
    this.#parts = parts;
    this.fs = parts.fs;
    this.pool = parts.pool;
    this.image = path.join(parts.scratch, 'disk.img');
    this.root = root;
    this.repo = path.join(root, 'repo');
    this.state = path.join(root, 'state');
  }

  /** Sessions of the volume "disk" (the oldest one protected, the second tagged "old") and one of "other". */
  static async make(parts: SceneParts): Promise<Scene> {
    const scene = new Scene(parts, parts.fs.mountPoint);
    await makeFastRepository(scene.repo);
    for (const [round, bands] of [
      [1, 7],
      [2, 7],
      [3, 8],
    ] as const) {
      scene.writeImage(round, bands);
      await scene.addSession('disk');
    }
    await scene.addSession('other');
    const [protectedOne, tagged] = scene.known;
    await scene.open(async ({ repository }) => {
      const volume = await repository.volume('disk');
      await changeLabels(repository, { volume, sessionId: protectedOne?.id ?? '' }, (labels) => ({ ...labels, isProtected: true }));
      await changeLabels(repository, { volume, sessionId: tagged?.id ?? '' }, (labels) => ({ ...labels, tags: ['old'] }));
    });
    scene.writeImage(4, 8);
    return scene;
  }

  at(...names: string[]): string {
    return path.join(this.root, ...names);
  }

  /** Looks at the files as they are now, copied to where nothing fails: nothing of the scene is changed, and it is faster. */
  async inCopy<T>(use: (copy: Scene) => Promise<T>): Promise<T> {
    const folder = path.join(this.#parts.scratch, 'copy');
    await this.fs.exportTo(folder);
    try {
      const copy = new Scene(this.#parts, folder);
      copy.known = this.known;
      return await use(copy);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** Each round changes two bands; one is zero, and the last is not whole. */
  writeImage(round: number, bands: number): void {
    const bytes = new Uint8Array(bands * BAND_256K - 512);
    for (let band = 0; band < bands; band++) {
      if (band === 5) continue;
      const version = Array.from({ length: round }, (_, i) => i + 1).findLast((one) => one === 1 || band % 4 === one % 4) ?? 1;
      bytes.set(fill(`band ${band} version ${version}`, DATA_BYTES), band * BAND_256K);
    }
    writeFileSync(this.image, bytes);
  }

  get imageDigest(): string {
    return createHash('sha256').update(readFileSync(this.image)).digest('hex');
  }

  async addSession(volume: string): Promise<void> {
    const { session } = await this.open((opened) => this.sync(opened, volume));
    if (session !== undefined) this.known = [...this.known, { volume, id: session, digest: this.imageDigest }];
  }

  async open<T>(use: (opened: Opened) => Promise<T>): Promise<T> {
    const { config } = await readConfig(repositoryLayout(this.repo));
    await using catalog = new Catalog(this.state, toHex(config.id), () => undefined);
    using repository = await Repository.open(this.repo, { passphrase: PASSPHRASE }, { pageCacheFor: (id) => catalog.pageCache(id) });
    return await use({ scene: this, repository, catalog });
  }

  sync({ repository, catalog }: Omit<Opened, 'scene'>, name: string, acceptsRollback = false): ReturnType<typeof syncVolume> {
    const options = { name, location: this.image, bandBytes: BAND_256K, acceptsRollback };
    return syncVolume(repository, options, { pool: this.pool, catalog });
  }

  async digestOf(session: SessionDirectory): Promise<string> {
    const hash = createHash('sha256');
    await streamSession({ session, pool: this.pool, write: (bytes) => Promise.resolve(void hash.update(bytes)) });
    return hash.digest('hex');
  }

  /** The process that held a lock has ended, and with the power the boot: this one goes on only for the sake of speed. */
  endProcess(repository = 'repo'): void {
    const locks = this.at(repository, 'locks');
    for (const name of readdirSync(locks).filter((one) => one.endsWith('.json'))) {
      const file = path.join(locks, name);
      const text = readFileSync(file, 'utf8');
      if (text.includes('"bootId"')) writeFileSync(file, text.replace(/"bootId":"[^"]*"/, `"bootId":"${GONE}"`));
    }
  }

  /**
   * What must hold after any command, however it ended: the sessions of before are whole, but for those that it `takes`, which
   * are whole or gone; another one holds the image; the check finds nothing; and the next sync succeeds and clears up.
   * @returns what does not hold
   */
  async problems(opened: Opened, takes: readonly string[], acceptsRollback = false): Promise<string[]> {
    const problems = [...(await this.#sessionProblems(opened, takes)), ...(await this.#checkProblems(opened))];
    const { session } = await this.sync(opened, 'disk', acceptsRollback);
    const volume = await opened.repository.volume('disk');
    if ((await this.digestOf(await volume.openSession(session ?? ''))) !== this.imageDigest) problems.push('the next sync: not what the image holds');
    const left = [...readdirSync(opened.repository.layout.trash), ...readdirSync(volume.layout.incoming)];
    if (left.length > 0) problems.push(`after the next sync ${left.join(', ')} is left`);
    return problems;
  }

  async #sessionProblems({ repository }: Opened, takes: readonly string[]): Promise<string[]> {
    const problems: string[] = [];
    const { volumes } = await repository.listVolumes();
    const seen = new Set<string>();
    for (const volume of volumes) {
      for (const id of await volume.sessionIds()) {
        const known = this.known.find((one) => one.id === id);
        seen.add(id);
        if ((await this.digestOf(await volume.openSession(id))) !== (known?.digest ?? this.imageDigest))
          problems.push(`session ${id} has other content`);
      }
    }
    for (const { volume, id } of this.known) if (!seen.has(id) && !takes.includes(id)) problems.push(`session ${volume}@${id} is gone`);
    return problems;
  }

  async #checkProblems({ repository }: Opened): Promise<string[]> {
    const { findings } = await checkRepository(repository, { pool: this.pool, withData: true });
    return findings.map(({ code, message }) => `check: ${code}: ${message}`);
  }
}
