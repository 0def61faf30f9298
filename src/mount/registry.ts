/** Which mounts this user has up, so that `unmount` and `close` find what to take down. */
import path from 'node:path';
import { createDirectories } from '../../bands/store/files.ts';
import type { ProcessIdentity } from '../host.ts';
import { ServiceRegistry } from '../service-registry.ts';
import { mountPointName } from './mount-point.ts';

export interface MountRecord {
  /** The process that serves the FUSE mount, once it is started. */
  readonly server: ProcessIdentity | undefined;
  /** Undefined for an attached image, which belongs to none. */
  readonly repository: string | undefined;
  /** Where the FUSE mount is. */
  readonly fusePoint: string;
  /** For `open`: the loop device, once it is attached. */
  readonly opened: { readonly loop: string | undefined } | undefined;
  /** What `track attach` or `bundle attach` serves. */
  readonly attached?: AttachedImage;
}

export interface AttachedImage {
  readonly kind: 'tracked' | 'bundle';
  /** Absolute, without links. */
  readonly location: string;
}

/** The command that brings it up. */
export function attachCommand({ kind }: AttachedImage): string {
  return kind === 'tracked' ? 'track attach' : 'bundle attach';
}

/** The command that takes it down. */
export function detachCommand({ kind }: AttachedImage): string {
  return kind === 'tracked' ? 'track detach' : 'bundle detach';
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
