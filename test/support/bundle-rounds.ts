/**
 * Rounds of writes through a live bundle's mount while the process that serves it is killed: whatever had been written is there,
 * by the rules of the format alone and through the next mount, and a file system on it is clean and has what was fsynced.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createBundle } from '../../src/bundle/create-bundle.ts';
import { attachBundle, detachBundle } from '../../src/mount/attached.ts';
import { MIB } from './bundles.ts';
import { fill, isSame } from './bytes.ts';
import { killServer } from './mount-server.ts';
import { readPart } from './parts.ts';

const run = promisify(execFile);
const SIZE = 12 * MIB - 4096;
/** As small as an XFS may be, and more. */
const FILE_SYSTEM_BYTES = 320 * MIB;
const PAGE_BYTES = 4096;
const MAX_PAGES = 32;
const SCENARIOS = ['bytes', 'bytes', 'ext4', 'bytes', 'bytes', 'xfs'] as const;

export interface BundleCounts {
  rounds: number;
  writes: number;
  flushes: number;
  /** Writes that a kill hit: answered with an error, made or not. */
  cutWrites: number;
  durableFiles: number;
}

export class BundleRounds {
  readonly counts: BundleCounts = { rounds: 0, writes: 0, flushes: 0, cutWrites: 0, durableFiles: 0 };
  readonly #root: string;
  readonly #random: () => number;
  /** What the bundle of bytes holds. */
  readonly #model: Uint8Array = new Uint8Array(SIZE);
  /** On the file systems: the content by name. */
  readonly #files = new Map<string, string>();

  /** @param random numbers from 0 to 1; the same give the same choices */
  constructor(root: string, random: () => number) {
    this.#root = root;
    this.#random = random;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #at(...names: string[]): string {
    return path.join(this.#root, ...names);
  }

  get #directory(): string {
    return this.#at('mnt');
  }

  async round(): Promise<void> {
    const scenario = SCENARIOS[this.counts.rounds % SCENARIOS.length] ?? 'bytes';
    mkdirSync(this.#directory, { recursive: true });
    await (scenario === 'bytes' ? this.#bytesRound() : this.#fileSystemRound(scenario));
    this.counts.rounds++;
  }

  async #attach(name: string, sizeBytes: number): Promise<string> {
    const bundle = this.#at(`${name}.sparsebundle`);
    if (!existsSync(bundle)) await createBundle(bundle, { sizeBytes, bandBytes: MIB });
    await attachBundle({ stateDirectory: this.#at('state'), image: bundle, directory: this.#directory });
    return bundle;
  }

  async #detach(): Promise<void> {
    await detachBundle(this.#at('state'), this.#directory);
  }

  async #kill(): Promise<void> {
    await killServer(this.#at('state'), this.#directory);
  }

  async #bytesRound(): Promise<void> {
    const bundle = await this.#attach('bytes', SIZE);
    const writing = this.#writeUntilKilled(await open(path.join(this.#directory, 'image'), 'r+'));
    await sleep(20 + this.#below(300));
    await this.#kill();
    const cut = await writing;
    this.#learn(bundle, cut);
    await this.#attach('bytes', SIZE);
    if (!isSame(readPart(path.join(this.#directory, 'image'), 0, SIZE), this.#model)) throw new Error('the next mount shows other bytes');
    await this.#detach();
  }

  /** @returns the write that the kill hit */
  async #writeUntilKilled(file: FileHandle): Promise<{ readonly offset: number; readonly bytes: Uint8Array }> {
    try {
      for (;;) {
        const page = this.#below(Math.floor(SIZE / PAGE_BYTES));
        const offset = page * PAGE_BYTES;
        const length = Math.min((1 + this.#below(MAX_PAGES)) * PAGE_BYTES, SIZE - offset);
        const bytes = new Uint8Array(length).fill(this.#random() < 0.3 ? 0 : 1 + this.#below(255));
        try {
          await file.write(bytes, 0, length, offset);
        } catch {
          this.counts.cutWrites++;
          return { offset, bytes };
        }
        this.#model.set(bytes, offset);
        this.counts.writes++;
        if (
          this.#random() < 0.1 &&
          (await file.sync().then(
            () => true,
            () => false,
          ))
        )
          this.counts.flushes++;
      }
    } finally {
      await file.close().catch(() => undefined); // of a mount that is dead
    }
  }

  /** By the rules of the format alone: a missing band is zeros, a short one ends in zeros. Of the write that was cut, any bytes may be there. */
  #learn(bundle: string, cut: { readonly offset: number; readonly bytes: Uint8Array }): void {
    const found = new Uint8Array(SIZE);
    for (const name of readdirSync(path.join(bundle, 'bands')))
      found.set(readFileSync(path.join(bundle, 'bands', name)), Number.parseInt(name, 16) * MIB);
    for (const [i, byte] of cut.bytes.entries()) {
      const at = cut.offset + i;
      if (found[at] !== byte && found[at] !== this.#model[at]) throw new Error(`byte ${at} is neither what was there nor what was written`);
      this.#model[at] = found[at] ?? 0;
    }
    if (!isSame(found, this.#model)) throw new Error('a write that had succeeded is lost');
  }

  async #fileSystemRound(type: 'ext4' | 'xfs'): Promise<void> {
    const isNew = !existsSync(this.#at(`${type}.sparsebundle`));
    await this.#attach(type, FILE_SYSTEM_BYTES);
    const folder = this.#at('fs');
    mkdirSync(folder, { recursive: true });
    await this.#withLoop(async (loop) => {
      if (isNew) await run(`mkfs.${type}`, type === 'ext4' ? ['-q', loop] : ['-q', '-f', loop]);
      await run('mount', [loop, folder]);
      const writing = this.#writeFiles(type, folder);
      await sleep(50 + this.#below(400));
      await this.#kill();
      await writing;
      await run('umount', [folder]).catch(() => run('umount', ['-l', folder])); // its last writes fail
    });
    await this.#attach(type, FILE_SYSTEM_BYTES);
    await this.#withLoop((loop) => this.#check(type, { loop, folder }));
    await this.#detach();
  }

  async #withLoop(use: (loop: string) => Promise<void>): Promise<void> {
    const loop = (await run('losetup', ['--find', '--show', '--direct-io=on', path.join(this.#directory, 'image')])).stdout.trim();
    try {
      await use(loop);
    } finally {
      await run('losetup', ['--detach', loop]);
    }
  }

  /** Until one fails; those that were fsynced with their folder are noted. */
  async #writeFiles(type: string, folder: string): Promise<void> {
    for (let i = 0; ; i++) {
      const name = `${this.counts.rounds}-${i % 20}`;
      const label = `${name} ${i}`;
      try {
        await using file = await open(path.join(folder, name), 'w');
        this.#files.delete(`${type}/${name}`); // it may be empty from now on
        await file.write(fill(label, 1 + this.#below(100_000)));
        await file.sync();
        await using parent = await open(folder, 'r');
        await parent.sync();
      } catch {
        return;
      }
      this.#files.set(`${type}/${name}`, label);
    }
  }

  async #check(type: 'ext4' | 'xfs', { loop, folder }: { readonly loop: string; readonly folder: string }): Promise<void> {
    if (type === 'ext4') {
      await run('e2fsck', ['-f', '-p', loop]).catch((error: { readonly code: number }) => {
        if (error.code !== 1) throw error; // 1: the journal was replayed, and no more
      });
      await run('e2fsck', ['-f', '-n', loop]);
    }
    await run('mount', [loop, folder]); // replays the log
    for (const [key, label] of this.#files) {
      if (!key.startsWith(`${type}/`)) continue;
      const found = readFileSync(path.join(folder, key.slice(type.length + 1)));
      if (found.length === 0 || !isSame(found, fill(label, found.length))) throw new Error(`${key} was made durable, and is not what was written`);
      this.counts.durableFiles++;
    }
    await run('umount', [folder]);
    if (type === 'xfs') await run('xfs_repair', ['-n', loop]);
  }
}
