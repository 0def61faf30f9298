/**
 * A tree that waits for descriptors: what fails because the process may open no more files is tried again after others
 * gave theirs back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isShortage } from '../../bands/errors.ts';
import { isWritable } from '../../bands/store/image.ts';
import type { ImageTree, OpenImage, TreeEntry } from '../../fuse/image-tree.ts';

const ATTEMPTS = 50;
const PAUSE_MS = 10;

export class PatientTree implements ImageTree {
  readonly #tree: ImageTree;

  constructor(tree: ImageTree) {
    this.#tree = tree;
  }

  get totalBytes(): number {
    return this.#tree.totalBytes;
  }

  get isWritable(): boolean {
    return this.#tree.isWritable;
  }

  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (!isShortage(error) || attempt >= ATTEMPTS) throw error;
        await sleep(Math.random() * PAUSE_MS);
      }
    }
  }

  list(path: string): Promise<readonly string[] | undefined> {
    return this.#patiently(() => this.#tree.list(path));
  }

  look(path: string): Promise<TreeEntry | undefined> {
    return this.#patiently(() => this.#tree.look(path));
  }

  async open(path: string): Promise<OpenImage | undefined> {
    const image = await this.#patiently(() => this.#tree.open(path));
    if (image === undefined) return undefined;
    const patient: OpenImage = {
      sizeBytes: image.sizeBytes,
      read: (out, offset, cursor) => this.#patiently(() => image.read(out, offset, cursor)),
      release: () => image.release(),
    };
    if (!isWritable(image)) return patient;
    const write = (bytes: Uint8Array, offset: number): Promise<void> => this.#patiently(() => image.write(bytes, offset));
    return { ...patient, write, flush: () => image.flush() };
  }
}
