/** Which mounts this user has up, so that `unmount` and `close` find what to take down. */
import path from 'node:path';
import { createDirectories } from '../../bands/store/files.ts';
import type { ProcessIdentity } from '../host.ts';
import { ServiceRegistry } from '../service-registry.ts';
import { mountPointName } from './mount-point.ts';

export interface MountRecord {
  /** The process that serves the FUSE mount, once it is started. */
  readonly server: ProcessIdentity | undefined;
  readonly repository: string;
  /** Where the FUSE mount is. */
  readonly fusePoint: string;
  /** For `open`: the loop device, once it is attached. */
  readonly opened: { readonly loop: string | undefined } | undefined;
}

export class MountRegistry extends ServiceRegistry<MountRecord> {
  constructor(stateDirectory: string) {
    super(path.join(stateDirectory, 'mounts'), 'the mount point');
  }

  /** A private folder for the FUSE mount under an `open`, as the mount table will name it. */
  async makeFusePoint(directory: string): Promise<string> {
    const point = `${this.base(directory)}.fuse`;
    await createDirectories(point);
    return await mountPointName(point);
  }
}
