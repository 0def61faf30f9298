/**
 * Our bitmaps in one qcow2 image, for one volume: which one tells what changed since a session, and their rotation.
 *
 * The next bitmap is added before the image is exported, so it records all that is written after; it is bound to the new
 * session before the commit; the old one is removed after it. A sync that fails removes the next one; one that is killed
 * leaves it, unbound, to be removed by the sync after.
 *
 * A bitmap carries no id, and QEMU drops the bits behind the end of a disk that is made smaller: when it grows again, what
 * was lost there is called clean. So a few places of a new bitmap are marked dirty, the last one of the disk among them. A
 * bitmap that lacks one of them was cut, cleared or replaced.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { statfs } from 'node:fs/promises';
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { SECTOR_BYTES } from '../../../bands/format/geometry.ts';
import type { SessionToken, SourceOwner } from '../source.ts';
import { type Binding, Qcow2Bindings } from './bindings.ts';
import { type Qcow2Image, type Qcow2Info, stampFiles } from './qcow2-image.ts';

const MIN_GRANULARITY_BYTES = 65_536;
/** QEMU can ruin an image whose bitmaps it has no room to write. */
const MIN_FREE_BYTES = 67_108_864;

/** Besides the last sector. */
const RANDOM_MARKS = 7;

/** The bitmap to count from, in which `marks` must be dirty; or why there is none. */
export type BitmapChoice = Pick<Binding, 'bitmap' | 'marks'> | { readonly reason: string };

export class Qcow2Bitmaps {
  readonly #image: Qcow2Image;
  readonly #info: Qcow2Info;
  readonly #bindings: Qcow2Bindings;
  readonly #prefix: string;
  readonly #backingStamp: string | undefined;
  #bound: readonly Binding[];
  /** All of this owner that are in the image. */
  #present: readonly string[];
  /** The one that was added and is not bound. */
  #next: Pick<Binding, 'bitmap' | 'marks'> | undefined;
  #baseCommitId: string | undefined;

  private constructor(
    image: Qcow2Image,
    state: { info: Qcow2Info; owner: SourceOwner; bindings: Qcow2Bindings; bound: readonly Binding[]; backingStamp: string | undefined },
  ) {
    this.#image = image;
    this.#info = state.info;
    this.#bindings = state.bindings;
    this.#bound = state.bound;
    this.#backingStamp = state.backingStamp;
    this.#prefix = ownPrefix(state.owner);
    this.#present = state.info.bitmaps.map(({ name }) => name).filter((name) => name.startsWith(this.#prefix));
  }

  /** Changes nothing. */
  static async load(
    image: Qcow2Image,
    info: Qcow2Info,
    kept: { readonly stateDirectory: string; readonly owner: SourceOwner },
  ): Promise<Qcow2Bitmaps> {
    const bindings = new Qcow2Bindings(kept.stateDirectory, kept.owner);
    const backingStamp = await stampFiles(info.backing);
    return new Qcow2Bitmaps(image, { info, owner: kept.owner, bindings, bound: await bindings.read(), backingStamp });
  }

  /** Adds the bitmap that the next session will count from. @returns warnings @throws TimebandError LOCKED */
  async addNext(): Promise<string[]> {
    try {
      const bound = new Set(this.#bound.map(({ bitmap }) => bitmap));
      await this.#remove(this.#present.filter((name) => !bound.has(name)));
      if (this.#info.dataFile !== undefined) return [];
      if (!this.#image.isDevice) await requireSpace(this.#image.path);
      this.#next = await this.#add();
      return [];
    } catch (error) {
      if (error instanceof TimebandError && error.code === 'LOCKED') throw error;
      return [`no bitmap could be added to ${this.#image.path}, so the next sync will read everything: ${messageOf(error)}`];
    }
  }

  async #add(): Promise<Pick<Binding, 'bitmap' | 'marks'>> {
    const { sizeBytes, clusterBytes } = this.#info;
    const bitmap = this.#prefix + randomBytes(8).toString('hex');
    const marks = [sizeBytes - SECTOR_BYTES, ...Array.from({ length: RANDOM_MARKS }, () => randomInt(sizeBytes / SECTOR_BYTES) * SECTOR_BYTES)];
    // As large as a cluster, which is written to as a whole.
    const granularityBytes = Math.max(MIN_GRANULARITY_BYTES, clusterBytes);
    await this.#image.addBitmap(bitmap, { granularityBytes, sizeBytes, marks, scratch: await this.#bindings.scratchFile() });
    this.#present = [...this.#present, bitmap];
    return { bitmap, marks };
  }

  /** The bitmap that is bound to `base`, if it can be believed. */
  choose(base: SessionToken): BitmapChoice {
    this.#baseCommitId = base.commitId;
    const { dataFile } = this.#info;
    const where = this.#image.path;
    if (dataFile !== undefined) return { reason: `the data of ${where} lies in ${dataFile}, which can be written to behind the back of any bitmap` };
    const binding = this.#bound.find(({ commitId }) => commitId === base.commitId);
    if (binding === undefined) return { reason: `this machine has kept no bitmap in ${where} for the newest session` };
    const bitmap = this.#info.bitmaps.find(({ name }) => name === binding.bitmap);
    if (bitmap === undefined) return { reason: `the bitmap of the newest session is not in ${where} any more` };
    if (bitmap.isInUse) return { reason: `the bitmap in ${where} is not whole: whoever wrote to the image was killed` };
    if (!bitmap.isEnabled) return { reason: `the bitmap in ${where} was switched off, so it may lack changes` };
    if (binding.backingStamp === undefined || binding.backingStamp !== this.#backingStamp)
      return { reason: `a backing file of ${where} changed since the newest session, or may have; its bitmap does not tell of that` };
    return binding;
  }

  /** Durable when it returns. */
  async bind({ commitId }: SessionToken): Promise<void> {
    if (this.#next === undefined) return;
    const next: Binding = { ...this.#next, commitId, backingStamp: this.#backingStamp };
    const base = this.#baseCommitId;
    const others = this.#bound.filter((one) => one.commitId !== commitId && (base === undefined || one.commitId === base));
    const bound = [...others, next];
    await this.#bindings.write(bound);
    this.#bound = bound;
    this.#next = undefined;
  }

  /** Removes every bitmap of this owner but that of `token`. The image must not be exported. */
  async keepOnly({ commitId }: SessionToken): Promise<void> {
    const kept = this.#bound.filter((one) => one.commitId === commitId);
    if (kept.length !== this.#bound.length) await this.#bindings.write(kept);
    this.#bound = kept;
    this.#next = undefined;
    await this.#remove(this.#present.filter((name) => !kept.some(({ bitmap }) => bitmap === name)));
  }

  /** Removes the bitmap that was added and not bound. The image must not be exported. */
  async dropNext(): Promise<void> {
    if (this.#next === undefined) return;
    const { bitmap } = this.#next;
    this.#next = undefined;
    await this.#remove([bitmap]);
  }

  /** Removes all of this owner. @returns their names */
  async removeAll(): Promise<readonly string[]> {
    const removed = this.#present;
    await this.#remove(removed);
    await this.#bindings.remove();
    return removed;
  }

  async #remove(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await this.#image.removeBitmap(name);
      this.#present = this.#present.filter((one) => one !== name);
    }
  }
}

function ownPrefix({ repositoryId, volumeId }: SourceOwner): string {
  return `timeband-${repositoryId}-${volumeId}-`;
}

async function requireSpace(image: string): Promise<void> {
  const { bavail, bsize } = await statfs(image);
  if (bavail * bsize >= MIN_FREE_BYTES) return;
  throw new TimebandError(
    `its file system has only ${bavail * bsize} bytes left, and QEMU can ruin an image whose bitmaps it cannot write. Make room.`,
    {
      code: 'NO_SPACE',
      path: image,
    },
  );
}
