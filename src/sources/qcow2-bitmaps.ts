/**
 * Our bitmaps in one qcow2 image, for one volume: which one tells what changed since a session, and their rotation.
 *
 * The next bitmap is added before the image is exported, so it records all that is written after; it is bound to the new
 * session before the commit; the old one is removed after it. A sync that fails removes the next one; one that is killed
 * leaves it, unbound, to be removed by the sync after.
 */
import { randomBytes } from 'node:crypto';
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { type Binding, Qcow2Bindings } from './qcow2-bindings.ts';
import { type Qcow2Image, type Qcow2Info, stampFiles } from './qcow2-image.ts';
import type { SessionToken, SourceOwner } from './source.ts';

const MIN_GRANULARITY_BYTES = 65_536;
/** QEMU can ruin an image whose bitmaps it has no room to write. */
const MIN_FREE_BYTES = 67_108_864;

/** The bitmap to count from, or why there is none. */
export type BitmapChoice = { readonly bitmap: string } | { readonly reason: string };

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
  #next: string | undefined;
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
      await requireSpace(this.#image.path);
      const name = this.#prefix + randomBytes(8).toString('hex');
      // As large as a cluster: then a cluster that has any data has only data that the bitmap tells of, or what was there before.
      await this.#image.addBitmap(name, Math.max(MIN_GRANULARITY_BYTES, this.#info.clusterBytes));
      this.#next = name;
      this.#present = [...this.#present, name];
      return [];
    } catch (error) {
      if (error instanceof TimebandError && error.code === 'LOCKED') throw error;
      return [`no bitmap could be added to ${this.#image.path}, so the next sync will read everything: ${messageOf(error)}`];
    }
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
    return { bitmap: binding.bitmap };
  }

  /** Durable when it returns. */
  async bind({ commitId }: SessionToken): Promise<void> {
    if (this.#next === undefined) return;
    const next: Binding = { bitmap: this.#next, commitId, backingStamp: this.#backingStamp };
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
    const next = this.#next;
    this.#next = undefined;
    await this.#remove([next]);
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
  const { bavail, bsize } = await statfs(path.dirname(image));
  if (bavail * bsize >= MIN_FREE_BYTES) return;
  throw new TimebandError(
    `its file system has only ${bavail * bsize} bytes left, and QEMU can ruin an image whose bitmaps it cannot write. Make room.`,
    {
      code: 'NO_SPACE',
      path: image,
    },
  );
}
