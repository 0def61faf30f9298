/** Serving a tree of images by FUSE in this process until it is unmounted. */
import { messageOf } from '../../bands/errors.ts';
import type { ImageTree } from '../../fuse/image-tree.ts';
import { TreeMount } from '../../fuse/tree-mount.ts';
import type { Service } from '../background/serve.ts';

export interface ServedTree {
  readonly tree: ImageTree;
  /** What the mount table calls it. */
  readonly label: string;
  /** Called once it is gone, or if it does not come up. */
  readonly end: () => Promise<void>;
}

export interface TreePlace {
  readonly mountPoint: string;
  readonly allowOther: boolean;
}

export interface ServedMount extends Service {
  readonly mountPoint: string;
}

/** @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE, after `end` */
export async function serveTree({ tree, label, end }: ServedTree, place: TreePlace, log: (line: string) => void): Promise<ServedMount> {
  try {
    const { mountPoint, allowOther } = place;
    const onError = (operation: string, path: string, error: unknown): void => log(`${operation} ${path}: ${messageOf(error)}`);
    const mount = await TreeMount.up({ mountPoint, allowOther, tree, label, onError });
    const gone = mount.gone.finally(end);
    return {
      mountPoint: mount.mountPoint,
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
