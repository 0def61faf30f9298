/** Serving one image that can be written in this process until it is unmounted. */
import { messageOf } from '../../bands/errors.ts';
import type { WritableImage } from '../../bands/store/image.ts';
import { TreeMount } from '../../fuse/tree-mount.ts';
import type { Service } from '../background/serve.ts';
import { NOT_IN_ORDER } from './registry.ts';
import { SingleImageTree } from './single-image-tree.ts';

/** What a program that serves an image is told. */
export interface ImageRequest {
  readonly mountPoint: string;
  readonly allowOther: boolean;
}

export interface ServedImage {
  readonly image: WritableImage;
  /** What the mount table calls it. */
  readonly label: string;
  /** Makes it durable and lets go of it. */
  readonly close: () => Promise<void>;
}

/** Takes the image over. @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE, and the image is closed */
export async function serveImage({ image, label, close }: ServedImage, request: ImageRequest, log: (line: string) => void): Promise<Service> {
  const end = (): Promise<void> => close().catch((error: unknown) => log(`${NOT_IN_ORDER}${messageOf(error)}`));
  try {
    const mount = await TreeMount.up({
      ...request,
      tree: new SingleImageTree(image, Date.now()),
      label,
      onError: (operation, path, error) => log(`${operation} ${path}: ${messageOf(error)}`),
    });
    const gone = mount.gone.finally(end);
    return {
      gone,
      async down() {
        await mount.down();
        await gone;
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}
