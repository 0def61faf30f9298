/** What the tools back up: a folder with the image in it, and how the image changes between two backups. */
import { mkdir, open, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { SeededRandom } from '../random.ts';
import type { BaseImage } from './image.ts';
import type { Runner } from './measure.ts';

export const IMAGE_NAME = 'disk.img';
const MIB = 1_048_576;
const BLOCK_BYTES = 4096;
const RANDOM_WRITES = 300;
const OVERWRITE_BYTES = 64 * MIB;

/** In bytes. */
export interface ChangedRange {
  readonly offset: number;
  readonly length: number;
}

export class SourceFolder {
  readonly directory: string;
  readonly sizeBytes: number;

  private constructor(directory: string, sizeBytes: number) {
    this.directory = directory;
    this.sizeBytes = sizeBytes;
  }

  /** A copy of the image that may be changed, in a folder of its own. */
  static async create(directory: string, runner: Runner, base: BaseImage): Promise<SourceFolder> {
    await mkdir(directory, { recursive: true });
    const source = new SourceFolder(directory, base.sizeBytes);
    await runner.run({ argv: ['cp', '--sparse=auto', '--reflink=never', base.file, source.image] });
    await source.#renewNeighbour();
    return source;
  }

  get image(): string {
    return path.join(this.directory, IMAGE_NAME);
  }

  /** Borg forgets what it knows of the newest file of a backup; a tiny file that is always newer takes that place. */
  async #renewNeighbour(): Promise<void> {
    await writeFile(path.join(this.directory, 'disk.conf'), `backed up ${new Date().toISOString()}\n`);
  }

  /** Gives the image a new time, as a snapshot has one: nobody can know that nothing changed. */
  async touch(): Promise<void> {
    const now = new Date();
    await utimes(this.image, now, now);
    await this.#renewNeighbour();
  }

  /** Small writes all over the image, and one large stretch written anew: the same ones in every run, others in every round. @returns where */
  async change(round = 0): Promise<ChangedRange[]> {
    const random = new SeededRandom(round === 0 ? 'changes' : `changes ${round}`);
    const blocks = this.sizeBytes / BLOCK_BYTES;
    const stretch = Math.min(OVERWRITE_BYTES, Math.floor(this.sizeBytes / 4 / MIB) * MIB);
    await using handle = await open(this.image, 'r+');
    const ranges: ChangedRange[] = [];
    for (let i = 0; i < RANDOM_WRITES; i++) {
      const bytes = random.bytes(BLOCK_BYTES);
      const offset = random.below(blocks) * BLOCK_BYTES;
      await handle.write(bytes, 0, BLOCK_BYTES, offset);
      ranges.push({ offset, length: BLOCK_BYTES });
    }
    const start = random.below(blocks - stretch / BLOCK_BYTES) * BLOCK_BYTES;
    for (let at = 0; at < stretch; at += MIB) await handle.write(random.bytes(MIB), 0, MIB, start + at);
    await handle.sync();
    await this.#renewNeighbour();
    return [...ranges, { offset: start, length: stretch }];
  }
}
