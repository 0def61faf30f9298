/** Real file systems on loop devices, to put images on. */
import { sh, type Workspace } from './workspace.ts';

export interface FileSystemSpec {
  readonly name: string;
  /** The command that makes it; none: tmpfs, which is mounted, not made. */
  readonly make: readonly string[];
  readonly sizeMib: number;
  /** Options of mount. */
  readonly options?: string;
}

/** Makes a file system in the workspace and mounts it; it is taken down with the workspace. @returns the mount point */
export function mountFileSystem(ws: Workspace, { make, sizeMib, options }: FileSystemSpec, name = 'mnt'): string {
  const folder = ws.folder(name);
  const [tool, ...args] = make;
  if (tool === undefined) sh('mount', '-t', 'tmpfs', '-o', `size=${sizeMib}M`, 'tmpfs', folder);
  else {
    sh('truncate', '-s', `${sizeMib}M`, ws.at(`${name}.fs`));
    sh(tool, ...args, ws.at(`${name}.fs`));
    sh('mount', '-o', options === undefined ? 'loop' : `loop,${options}`, ws.at(`${name}.fs`), folder);
  }
  return folder;
}
