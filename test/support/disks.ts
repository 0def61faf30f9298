/** Disks that fail: what a test pulls out from under a file system, and puts back. */
import { sh, type Workspace } from './workspace.ts';

/** Sets a loop device's size limit (LOOP_SET_STATUS64) while it is in use, which losetup does not. */
const SET_LIMIT = `
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
status = bytearray(232)
fcntl.ioctl(fd, 0x4C05, status)
status[32:40] = struct.pack('<Q', 512)
fcntl.ioctl(fd, 0x4C04, status)
`;

/**
 * Takes the disk away from under a mounted XFS: all but the first sector of its loop device is gone. At the first write that
 * fails, the kernel shuts the file system down; that is not waited for. Every access then fails with EIO, also to what is in memory.
 */
export function pullDisk(mount: string): void {
  sh('/usr/bin/python3', '-c', SET_LIMIT, sh('findmnt', '--noheadings', '--output', 'SOURCE', mount).trim());
  sh('xfs_io', '-x', '-c', 'shutdown', mount);
}

/** Puts it back, as it was when it was pulled: what had not been written to it is lost. */
export function plugDisk(ws: Workspace, mount: string, image: string): void {
  sh('umount', mount);
  sh('mount', '-o', 'loop', ws.at(image), mount);
}
