/** An image tree in memory whose every step a test can replace, and requests that count their replies. */
import { setImmediate as turn } from 'node:timers/promises';
import type { FuseOperations, Reply } from '../../fuse/fuse-native.ts';
import type { ImageTree, OpenImage, TreeEntry } from '../../fuse/image-tree.ts';
import { TreeDriver } from '../../fuse/tree-driver.ts';

export const CONTENT: Uint8Array = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) % 251);
export const MTIME_MS: number = Date.UTC(2026, 10, 21, 10, 0, 0, 123);

/** The image at /image, a link to it at /latest, a folder at /folder. */
export class FakeTree implements ImageTree {
  totalBytes = 0;
  isWritable = false;
  released = 0;
  list: ImageTree['list'] = (path) => Promise.resolve(path === '/' ? ['image', 'latest', 'folder'] : undefined);
  look: ImageTree['look'] = (path) => Promise.resolve(ENTRIES[path]);
  open: ImageTree['open'] = (path) => Promise.resolve(path === '/image' ? this.image : undefined);

  image: OpenImage = {
    sizeBytes: CONTENT.length,
    read: (out, offset) => {
      out.set(CONTENT.subarray(offset, offset + out.length));
      return Promise.resolve();
    },
    release: () => {
      this.released++;
      return Promise.resolve();
    },
  };
}

const ENTRIES: Readonly<Record<string, TreeEntry>> = {
  '/': { kind: 'directory', mtimeMs: MTIME_MS },
  '/folder': { kind: 'directory', mtimeMs: MTIME_MS },
  '/latest': { kind: 'link', mtimeMs: MTIME_MS, target: 'ü/image' },
  '/image': { kind: 'file', mtimeMs: MTIME_MS, sizeBytes: CONTENT.length },
};

export interface Answer<T> {
  readonly status: number;
  readonly value: T | undefined;
  /** How often the request was answered; more or less than once is a fault. */
  readonly replies: number;
}

export class Rig {
  readonly tree: FakeTree;
  readonly errors: string[] = [];
  readonly driver: TreeDriver;
  readonly operations: FuseOperations;

  constructor(options: { readonly allowOther?: boolean; readonly onError?: () => void } = {}, tree: FakeTree = new FakeTree()) {
    this.tree = tree;
    this.driver = new TreeDriver(this.tree, {
      allowOther: options.allowOther ?? false,
      onError: options.onError ?? ((operation, path) => this.errors.push(`${operation} ${path}`)),
    });
    this.operations = this.driver.operations();
  }

  /** Sends a request and waits until nothing more can come of it. */
  async ask<T>(send: (operations: FuseOperations, reply: Reply<T>) => void): Promise<Answer<T>> {
    const answers: [number, T | undefined][] = [];
    send(this.operations, (status, value) => answers.push([status, value]));
    for (let turns = 0; turns < 5; turns++) await turn();
    const [status, value] = answers[0] ?? [Number.NaN, undefined];
    return { status, value, replies: answers.length };
  }

  /** Opens the image; gives the handle. */
  async openImage(): Promise<number> {
    const { value } = await this.ask<number>((operations, reply) => operations.open('/image', 0, reply));
    if (value === undefined) throw new Error('the image does not open');
    return value;
  }

  read(fd: number, buffer: Uint8Array, position: number, length: number = buffer.length): Promise<Answer<never>> {
    return this.ask((operations, reply) => operations.read('/image', fd, buffer, length, position, reply));
  }
}
