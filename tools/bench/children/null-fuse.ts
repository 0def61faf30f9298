/**
 * A FUSE file system of one file whose reads are answered at once, with nothing done for them: what fuse-native and the
 * kernel take of every read. Argument: the mount point. It serves until it is ended.
 */
import { writeFileSync } from 'node:fs';
import { type FuseOperations, type FuseStat, type FuseStatfs, loadFuse } from '../../../fuse/fuse-native.ts';
import { mountsAt } from '../../../fuse/mount-table.ts';

const SIZE_BYTES = 16 * 1024 ** 3;
const NAME = 'image';
const ENOENT = -2;
/** As Timeband's mounts have them, so that the figures can be compared. */
const OPTIONS = 'ro,max_background=8,congestion_threshold=8';
const READ_AHEAD_KB = '512';

function statOf(mode: number, size: number): FuseStat {
  const time = new Date(0);
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  return { mtime: time, atime: time, ctime: time, nlink: 1, size, blksize: 131_072, blocks: size / 512, mode, uid, gid };
}

const STATFS: FuseStatfs = {
  bsize: 4096,
  frsize: 4096,
  blocks: 0,
  bfree: 0,
  bavail: 0,
  files: 0,
  ffree: 0,
  favail: 0,
  fsid: 0,
  flag: 0,
  namemax: 255,
};

const operations: FuseOperations = {
  readdir: (_path, reply) => reply(0, [NAME]),
  getattr: (path, reply) => {
    if (path === '/') reply(0, statOf(0o40500, 0));
    else if (path === `/${NAME}`) reply(0, statOf(0o100400, SIZE_BYTES));
    else reply(ENOENT);
  },
  readlink: (_path, reply) => reply(ENOENT),
  statfs: (_path, reply) => reply(0, STATFS),
  open: (_path, _flags, reply) => reply(0, 1),
  release: (_path, _fd, reply) => reply(0),
  read: (_path, _fd, _buffer, length, _position, reply) => reply(length),
};

function raiseReadAhead(directory: string): void {
  const device = mountsAt(directory).at(-1)?.device;
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, READ_AHEAD_KB);
  } catch {
    // only root may: the figure is that of a mount by another user, then
  }
}

const directory = process.argv[2] ?? '';
const Fuse = loadFuse();
const fuse = new Fuse(directory, operations, {
  timeout: false,
  fsname: 'null',
  subtype: 'bench',
  kernelCache: true,
  allowOther: false,
  defaultPermissions: false,
});
const inherited = fuse._fuseOptions.bind(fuse);
fuse._fuseOptions = () => {
  const own = inherited();
  return own === '' || own === undefined ? `-o${OPTIONS}` : `${own},${OPTIONS}`;
};
fuse.mount((error) => {
  if (error !== null && error !== undefined) throw error;
  raiseReadAhead(directory);
});
setInterval(() => undefined, 1_000_000); // fuse-native alone does not keep a process alive
