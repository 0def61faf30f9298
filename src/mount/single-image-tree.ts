/** The tree under `timeband open`: one file, the image of one session. */
import { parseSessionId } from '../../bands/format/session-id.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { SessionImage, type SessionImageOptions } from '../../bands/store/session-image.ts';
import type { ImageTree, OpenImage, TreeEntry } from '../../fuse/image-tree.ts';
import { IMAGE_NAME } from './session-tree.ts';

export class SingleImageTree implements ImageTree {
  readonly #session: SessionDirectory;
  readonly #image: SessionImage;

  constructor(session: SessionDirectory, options: SessionImageOptions) {
    this.#session = session;
    this.#image = new SessionImage(session, options);
  }

  get totalBytes(): number {
    return this.#session.manifest.sizeBytes;
  }

  list(path: string): Promise<readonly string[] | undefined> {
    return Promise.resolve(path === '/' ? [IMAGE_NAME] : undefined);
  }

  look(path: string): Promise<TreeEntry | undefined> {
    const mtimeMs = parseSessionId(this.#session.sessionId) ?? 0;
    if (path === '/') return Promise.resolve({ kind: 'directory', mtimeMs });
    return Promise.resolve(path === `/${IMAGE_NAME}` ? { kind: 'file', mtimeMs, sizeBytes: this.totalBytes } : undefined);
  }

  open(path: string): Promise<OpenImage | undefined> {
    if (path !== `/${IMAGE_NAME}`) return Promise.resolve(undefined);
    return Promise.resolve({
      sizeBytes: this.totalBytes,
      read: (out, offset, cursor) => this.#image.read(out, offset, cursor),
      release: () => Promise.resolve(), // the next open uses what was decoded
    });
  }
}
