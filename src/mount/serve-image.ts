/** Serving one image that can be written in this process until it is unmounted. */
import type { WritableImage } from '../../bands/store/image.ts';
import type { Service } from '../background/serve.ts';
import { serveTree, type TreePlace } from './serve-tree.ts';
import { SingleImageTree } from './single-image-tree.ts';

export interface ServedImage {
  readonly image: WritableImage;
  /** What the mount table calls it. */
  readonly label: string;
  /** Makes it durable and lets go of it. */
  readonly close: () => Promise<void>;
}

/** Takes the image over. @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE, and the image is closed */
export async function serveImage({ image, label, close }: ServedImage, place: TreePlace, log: (line: string) => void): Promise<Service> {
  return await serveTree({ tree: new SingleImageTree(image, Date.now()), label, end: close }, place, log);
}
