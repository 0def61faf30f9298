/**
 * Rounds of writes through a tracked image's mount while it is synced, and while the process that serves it, or the sync, is
 * killed. Writes are made one after the other and logged, so that whatever a session holds must be the image after some
 * number of them.
 */
import { spawn } from 'node:child_process';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createCursor } from '../../bands/store/image.ts';
import { SessionImage } from '../../bands/store/session-image.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { attachTracked, detachTracked } from '../../src/mount/attached.ts';
import type { Repository } from '../../src/repository.ts';
import type { SyncResult } from '../../src/sync/request.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { isSame } from './bytes.ts';
import { DYING_POINTS } from './dying-sync.ts';
import { BAND_256K, openNamed } from './library.ts';
import { killServer, untilServerEnds } from './mount-server.ts';
import { readPart, writeParts } from './parts.ts';

const DYING_SYNC = fileURLToPath(new URL('./dying-sync.js', import.meta.url));
const PAGE_BYTES = 4096;
const MAX_PAGES = 32;
const SIZE = 47 * BAND_256K + 8192;
const NAME = 'disk';
const SCENARIOS = ['sync', 'killed sync', 'killed driver', 'killed both', 'detached', 'written to by others'] as const;

export interface RoundsFolder {
  /** Holds the image, the mount point and the state folder. */
  readonly root: string;
  readonly repository: Repository;
  readonly pool: BandPool;
  /** Numbers from 0 to 1; the same give the same choices. */
  readonly random: () => number;
}

interface Written {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface Counts {
  rounds: number;
  writes: number;
  sessions: number;
  /** Sessions that hold less than all that was written when their sync ended. */
  frozenSessions: number;
  knownChanges: number;
  killedDrivers: number;
  killedSyncs: number;
}

export class TrackedRounds {
  readonly counts: Counts = { rounds: 0, writes: 0, sessions: 0, frozenSessions: 0, knownChanges: 0, killedDrivers: 0, killedSyncs: 0 };
  readonly #at: RoundsFolder;
  /** What the image holds. */
  readonly #model: Uint8Array = new Uint8Array(SIZE);
  /** What was written since the last look. */
  #log: Written[] = [];
  #file: FileHandle | undefined;

  constructor(at: RoundsFolder) {
    this.#at = at;
    writeParts(this.#image, SIZE);
  }

  get #image(): string {
    return path.join(this.#at.root, 'disk.img');
  }

  get #directory(): string {
    return path.join(this.#at.root, 'mnt');
  }

  get #location(): string {
    return path.join(this.#directory, 'image');
  }

  get #stateDirectory(): string {
    return path.join(this.#at.root, 'state');
  }

  #below(limit: number): number {
    return Math.floor(this.#at.random() * limit);
  }

  async attach(): Promise<string | undefined> {
    const { doubt } = await attachTracked({ stateDirectory: this.#stateDirectory, image: this.#image, directory: this.#directory });
    this.#file = await open(this.#location, 'r+');
    return doubt;
  }

  async detach(): Promise<void> {
    await this.#file?.close().catch(() => undefined); // of a mount that is dead
    this.#file = undefined;
    await detachTracked(this.#stateDirectory, this.#directory);
  }

  /** One write that reaches the driver as one request. @returns whether it went well */
  async #write(): Promise<boolean> {
    const page = this.#below(Math.floor(SIZE / PAGE_BYTES));
    const isSmall = this.#at.random() < 0.5;
    const offset = page * PAGE_BYTES + (isSmall ? this.#below(PAGE_BYTES - 1) : 0);
    const room = isSmall ? PAGE_BYTES - (offset % PAGE_BYTES) : Math.min(1 + this.#below(MAX_PAGES), SIZE / PAGE_BYTES - page) * PAGE_BYTES;
    const bytes = new Uint8Array(isSmall ? 1 + this.#below(room) : room).fill(1 + this.#below(255));
    if (this.#at.random() < 0.1) bytes.fill(0);
    try {
      await this.#file?.write(bytes, 0, bytes.length, offset);
    } catch {
      await this.#learn(offset, bytes.length); // the driver was killed: the write may have been made, or not
      return false;
    }
    this.#model.set(bytes, offset);
    this.#log.push({ offset, bytes });
    this.counts.writes++;
    if (this.#at.random() < 0.05) await this.#file?.sync().catch(() => undefined);
    return true;
  }

  async #learn(offset: number, length: number): Promise<void> {
    await this.#waitForDriversEnd();
    const bytes = readPart(this.#image, offset, length);
    this.#model.set(bytes, offset);
    this.#log.push({ offset, bytes });
  }

  async #writeSome(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.#write();
  }

  /** Writes on and on until `work` has ended. */
  async #whileWriting<T>(work: () => Promise<T>): Promise<T> {
    let hasEnded = false;
    const writing = (async () => {
      while (!hasEnded) {
        if (!(await this.#write())) break;
        await sleep(1);
      }
    })();
    try {
      return await work();
    } finally {
      hasEnded = true;
      await writing;
    }
  }

  async #waitForDriversEnd(): Promise<void> {
    await untilServerEnds(this.#stateDirectory, this.#directory);
  }

  async #killDriver(): Promise<void> {
    this.counts.killedDrivers++;
    await killServer(this.#stateDirectory, this.#directory);
  }

  /** After the driver's death: what was written is there, and it is known what. */
  async #attachAgain(): Promise<void> {
    await this.#file?.close().catch(() => undefined);
    if (!isSame(readPart(this.#image, 0, SIZE), this.#model)) throw new Error('a write that had succeeded is lost');
    await this.attach();
  }

  /** A sync that must succeed, and whose session must be the image as of one instant of its run. */
  async #sync(isWriting: boolean): Promise<SyncResult> {
    const before = Uint8Array.from(this.#model);
    this.#log = [];
    const run = (): Promise<SyncResult> =>
      syncVolume(
        this.#at.repository,
        { name: NAME, location: this.#location, bandBytes: BAND_256K },
        { pool: this.#at.pool, stateDirectory: this.#stateDirectory },
      );
    const result = isWriting ? await this.#whileWriting(run) : await run();
    if (result.missedBands > 0 || result.warnings.some((text) => text.includes('CANNOT BE TRUSTED')))
      throw new Error(`the bitmap missed bands: ${result.warnings.join()}`);
    if (result.source.kind !== 'tracked') throw new Error(`read as ${result.source.kind}`);
    await this.#compare(before);
    this.counts.sessions++;
    if (!result.warnings.some((text) => text.startsWith('reading everything'))) this.counts.knownChanges++;
    return result;
  }

  /** Finds the number of writes after which the image was what the newest session holds. */
  async #compare(bytes: Uint8Array): Promise<void> {
    const session = await openNamed(this.#at.repository, NAME);
    const held = new Uint8Array(SIZE);
    await new SessionImage(session, { pool: this.#at.pool }).read(held, 0, createCursor());
    for (let writes = 0; ; writes++) {
      if (isSame(held, bytes)) {
        if (writes < this.#log.length) this.counts.frozenSessions++;
        return;
      }
      const next = this.#log[writes];
      if (next === undefined) throw new Error(`session ${session.sessionId} is not the image of any instant`);
      bytes.set(next.bytes, next.offset);
    }
  }

  /** A sync in a process of its own that kills itself, or is killed. */
  async #killedSync(): Promise<void> {
    const { root } = this.#at.repository.layout;
    const isTimed = this.#at.random() < 0.4;
    const point = isTimed ? [] : [DYING_POINTS[this.#below(DYING_POINTS.length)] ?? 'read'];
    const child = spawn(process.execPath, [DYING_SYNC, root, NAME, this.#location, this.#stateDirectory, ...point], { stdio: 'ignore' });
    const end = new Promise<void>((resolve) => child.once('close', () => resolve()));
    const timer = isTimed ? setTimeout(() => child.kill('SIGKILL'), 100 + this.#below(600)) : undefined;
    await end;
    clearTimeout(timer);
    if (child.signalCode === 'SIGKILL') this.counts.killedSyncs++;
  }

  async round(): Promise<void> {
    const scenario = SCENARIOS[this.counts.rounds % SCENARIOS.length];
    await this.#writeSome(this.#below(30));
    if (scenario === 'killed sync') await this.#whileWriting(() => this.#killedSync());
    if (scenario === 'killed driver') await this.#killWhileWriting();
    if (scenario === 'killed both') {
      await this.#whileWriting(async () => {
        const sync = this.#killedSync();
        await sleep(this.#below(500));
        await this.#killDriver();
        await sync;
      });
      await this.#attachAgain();
    }
    if (scenario === 'detached' || scenario === 'written to by others') await this.#detachAndAttach(scenario === 'written to by others');
    const result = await this.#sync(this.at % 2 === 0);
    if (scenario === 'written to by others' && !result.warnings.some((text) => text.startsWith('reading everything')))
      throw new Error('what others wrote was not noticed');
    this.counts.rounds++;
  }

  get at(): number {
    return Math.floor(this.counts.rounds / SCENARIOS.length);
  }

  async #killWhileWriting(): Promise<void> {
    await this.#whileWriting(async () => {
      await sleep(this.#below(60));
      await this.#killDriver();
    });
    await this.#attachAgain();
  }

  async #detachAndAttach(isWrittenTo: boolean): Promise<void> {
    await this.detach();
    if (isWrittenTo) {
      const offset = this.#below(SIZE - 1);
      const bytes = Uint8Array.of(((this.#model[offset] ?? 0) + 1) % 256);
      writeParts(this.#image, SIZE, [{ at: offset, bytes }]);
      this.#model.set(bytes, offset);
    }
    if (!isSame(readPart(this.#image, 0, SIZE), this.#model)) throw new Error('a write is lost after a detach');
    const doubt = await this.attach();
    if (!isWrittenTo && doubt !== undefined) throw new Error(`an image that was detached in order is not believed: ${doubt}`);
  }
}
