/** A FUSE file system of one file, as bare as can be: what fuse-native and the kernel take. With the options that Timeband's mounts have. */
import { writeFileSync } from 'node:fs';
import { type FuseOperations, type FuseStat, type FuseStatfs, loadFuse } from '../../../fuse/fuse-native.ts';
import { mountsAt } from '../../../fuse/mount-table.ts';

const NAME = 'image';
const ENOENT = -2;
const REQUESTS = 'max_background=8,congestion_threshold=8';
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

export interface BareFile {
  readonly sizeBytes: number;
  /** Operations on the file; one that writes makes it writable. */
  readonly operations: Pick<FuseOperations, 'read'> & Partial<FuseOperations>;
}

/** Mounts it at `directory`, and serves until the process is ended. */
export function serveBare(directory: string, { sizeBytes, operations }: BareFile): void {
  const isWritable = operations.write !== undefined;
  const Fuse = loadFuse();
  const all: FuseOperations = {
    readdir: (_path, reply) => reply(0, [NAME]),
    getattr: (path, reply) => {
      if (path === '/') reply(0, statOf(0o40500, 0));
      else if (path === `/${NAME}`) reply(0, statOf(isWritable ? 0o100600 : 0o100400, sizeBytes));
      else reply(ENOENT);
    },
    readlink: (_path, reply) => reply(ENOENT),
    statfs: (_path, reply) => reply(0, STATFS),
    open: (_path, _flags, reply) => reply(0, 1),
    release: (_path, _fd, reply) => reply(0),
    ...operations,
  };
  const fuse = new Fuse(directory, all, {
    timeout: false,
    fsname: 'bare',
    subtype: 'bench',
    kernelCache: true,
    allowOther: false,
    defaultPermissions: false,
  });
  const options = `${isWritable ? 'big_writes' : 'ro'},${REQUESTS}`;
  const inherited = fuse._fuseOptions.bind(fuse);
  fuse._fuseOptions = () => {
    const own = inherited();
    return own === '' || own === undefined ? `-o${options}` : `${own},${options}`;
  };
  fuse.mount((error) => {
    if (error !== null && error !== undefined) throw error;
    raiseReadAhead(directory);
  });
  setInterval(() => undefined, 1_000_000); // fuse-native alone does not keep a process alive
}

function raiseReadAhead(directory: string): void {
  const device = mountsAt(directory).at(-1)?.device;
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, READ_AHEAD_KB);
  } catch {
    // only root may: the figure is that of a mount by another user, then
  }
}
