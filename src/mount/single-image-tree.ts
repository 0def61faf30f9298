/** The tree of one file, the image of one session or of whatever else is a disk. */
import { isWritable, type ReadableImage, type WritableImage } from '../../bands/store/image.ts';
import type { ImageTree, OpenImage, TreeEntry } from '../../fuse/image-tree.ts';
import { IMAGE_NAME } from './mount-point.ts';
import { openImage } from './open-image.ts';

export class SingleImageTree implements ImageTree {
  readonly isWritable: boolean;
  readonly #image: ReadableImage | WritableImage;
  readonly #mtimeMs: number;

  constructor(image: ReadableImage | WritableImage, mtimeMs: number) {
    this.isWritable = isWritable(image);
    this.#image = image;
    this.#mtimeMs = mtimeMs;
  }

  get totalBytes(): number {
    return this.#image.sizeBytes;
  }

  list(path: string): Promise<readonly string[] | undefined> {
    return Promise.resolve(path === '/' ? [IMAGE_NAME] : undefined);
  }

  look(path: string): Promise<TreeEntry | undefined> {
    const mtimeMs = this.#mtimeMs;
    if (path === '/') return Promise.resolve({ kind: 'directory', mtimeMs });
    return Promise.resolve(path === `/${IMAGE_NAME}` ? { kind: 'file', mtimeMs, sizeBytes: this.totalBytes } : undefined);
  }

  open(path: string): Promise<OpenImage | undefined> {
    if (path !== `/${IMAGE_NAME}`) return Promise.resolve(undefined);
    return Promise.resolve(openImage(this.#image, () => Promise.resolve())); // the next open uses what was decoded
  }
}
