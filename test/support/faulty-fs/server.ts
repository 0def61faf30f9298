/**
 * The process that serves a faulty file system: node server.js MOUNTPOINT, told what to do over its channel. It starts
 * no process and has no files open, so nothing but its end can keep the mount alive.
 */
import { linkSync, mkdirSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { type FuseOperations, loadFuse, type Reply } from '../../../fuse/fuse-native.ts';
import { type ArmedFault, FaultPlan, type Injected, type Operation } from './fault-plan.ts';
import { type Errno, type Inode, MemoryTree, TreeError } from './memory-tree.ts';

/** What the process is told; it answers each with a ServerAnswer. */
export type ServerRequest =
  | { readonly do: 'arm'; readonly fault: ArmedFault }
  /** The command has ended: power cut if that is planned, then no more faults. */
  | { readonly do: 'disarm' }
  /** Remembers the tree as it is, under a name. */
  | { readonly do: 'save'; readonly name: string }
  /** Makes the tree as it was when it was saved. */
  | { readonly do: 'reset'; readonly name: string }
  /** Writes all files, with their links, to a new folder of another file system. */
  | { readonly do: 'export'; readonly folder: string };

export type ServerAnswer = { readonly isMounted: true } | { readonly injected: Injected } | { readonly done: true };

/** Opening this file is a syncfs: the kernel does not pass that on to FUSE. */
export const SYNC_FILE = '.syncfs';

const OPTIONS = 'hard_remove,use_ino,big_writes,attr_timeout=0,entry_timeout=0,max_background=8,congestion_threshold=8';
const DIRECTORY_TYPE = 0o040000;
const FILE_TYPE = 0o100000;
const BLOCK_BYTES = 4096;
const FREE_BLOCKS = 262_144;

let tree = new MemoryTree();
const saved = new Map<string, MemoryTree>();
let plan: FaultPlan | undefined;
const open = new Map<number, Inode>();
let nextDescriptor = 1;

function errno(name: Errno | 'EIO' | 'ENOSPC' | 'EROFS' | 'EMFILE' | 'EBADF'): number {
  return -constants.errno[name];
}

/** Does the operation unless it is to fail; answers exactly once. */
function guarded<T>(operation: Operation, file: string, reply: Reply<T>, run: (isShort: boolean) => T | undefined, onFault?: () => void): void {
  const effect = plan?.judge(operation, file);
  if (effect !== undefined && effect !== 'short') {
    onFault?.();
    reply(errno(effect === 'cut' ? 'EIO' : effect));
    return;
  }
  try {
    reply(0, run(effect === 'short'));
  } catch (error) {
    reply(errno(error instanceof TreeError ? error.errno : 'EIO'));
  }
}

function describe(inode: Inode): object {
  const type = inode.isDirectory ? DIRECTORY_TYPE : FILE_TYPE;
  const size = inode.content.length;
  return {
    ino: inode.ino,
    mode: type | inode.mode,
    nlink: inode.isDirectory ? 2 : inode.links,
    size,
    blksize: BLOCK_BYTES,
    blocks: Math.ceil(size / 512),
    atime: new Date(inode.atimeMs),
    mtime: new Date(inode.mtimeMs),
    ctime: new Date(inode.mtimeMs),
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
  };
}

function isSyncFile(file: string): boolean {
  return file.endsWith(`/${SYNC_FILE}`);
}

function opened(inode: Inode): number {
  open.set(nextDescriptor, inode);
  return nextDescriptor++;
}

function held(fd: number): Inode {
  const inode = open.get(fd);
  if (inode === undefined) throw new TreeError('EINVAL');
  return inode;
}

const operations = {
  getattr(file: string, reply: Reply<object>): void {
    if (isSyncFile(file)) reply(0, { mode: FILE_TYPE | 0o600, size: 0, nlink: 1 });
    else guarded('lookup', file, reply, () => describe(tree.find(file)));
  },
  fgetattr(file: string, fd: number, reply: Reply<object>): void {
    guarded('lookup', file, reply, () => describe(held(fd)));
  },
  opendir(file: string, _flags: number, reply: Reply<number>): void {
    guarded('list', file, reply, () => opened(tree.find(file)));
  },
  readdir(file: string, reply: Reply<string[]>): void {
    guarded('list', file, reply, () => ['.', '..', ...tree.find(file).entries.keys()]);
  },
  releasedir(_file: string, fd: number, reply: Reply): void {
    open.delete(fd);
    reply(0);
  },
  readlink(_file: string, reply: Reply<string>): void {
    reply(errno('EINVAL'));
  },
  statfs(_file: string, reply: Reply<object>): void {
    const blocks = { blocks: FREE_BLOCKS, bfree: FREE_BLOCKS, bavail: FREE_BLOCKS };
    reply(0, { bsize: BLOCK_BYTES, frsize: BLOCK_BYTES, ...blocks, files: 1e6, ffree: 1e6, favail: 1e6, fsid: 0, flag: 0, namemax: 255 });
  },
  create(file: string, mode: number, reply: Reply<number>): void {
    guarded('create', file, reply, () => opened(tree.create(file, mode)));
  },
  open(file: string, _flags: number, reply: Reply<number>): void {
    if (isSyncFile(file)) {
      const all = (): number => {
        tree.makeAllDurable();
        return 0;
      };
      guarded('sync', file, reply, all, () => tree.forgetChanges(undefined));
    } else guarded('open', file, reply, () => opened(tree.find(file)));
  },
  release(_file: string, fd: number, reply: Reply): void {
    open.delete(fd);
    reply(0);
  },
  read(file: string, fd: number, buffer: Uint8Array, length: number, position: number, reply: Reply): void {
    let bytes = 0;
    guarded(
      'read',
      file,
      (status) => reply(status === 0 ? bytes : status),
      () => {
        const part = held(fd).content.subarray(position, position + length);
        buffer.set(part);
        bytes = part.length;
        return undefined;
      },
    );
  },
  write(file: string, fd: number, buffer: Uint8Array, length: number, position: number, reply: Reply): void {
    let bytes = 0;
    guarded(
      'write',
      file,
      (status) => reply(status === 0 ? bytes : status),
      (isShort) => {
        bytes = isShort ? Math.ceil(length / 2) : length;
        tree.write(held(fd), position, buffer.subarray(0, bytes));
        return undefined;
      },
    );
  },
  truncate(file: string, size: number, reply: Reply): void {
    guarded('truncate', file, reply, () => tree.truncate(tree.find(file), size) as undefined);
  },
  ftruncate(file: string, fd: number, size: number, reply: Reply): void {
    guarded('truncate', file, reply, () => tree.truncate(held(fd), size) as undefined);
  },
  utimens(file: string, atime: number, mtime: number, reply: Reply): void {
    guarded('attributes', file, reply, () => Object.assign(tree.find(file), { atimeMs: atime, mtimeMs: mtime }) && undefined);
  },
  chmod(file: string, mode: number, reply: Reply): void {
    guarded('attributes', file, reply, () => Object.assign(tree.find(file), { mode: mode & 0o7777 }) && undefined);
  },
  chown(_file: string, _uid: number, _gid: number, reply: Reply): void {
    reply(0);
  },
  fsync(file: string, _isDataOnly: number, fd: number, reply: Reply): void {
    const inode = open.get(fd);
    guarded(
      'sync',
      file,
      reply,
      () => tree.makeDurable(held(fd)) as undefined,
      () => inode && tree.forgetChanges(inode),
    );
  },
  fsyncdir(file: string, _isDataOnly: number, _fd: number, reply: Reply): void {
    guarded(
      'sync',
      file,
      reply,
      () => tree.makeDurable(tree.find(file)) as undefined,
      () => forgetNames(file),
    );
  },
  mkdir(file: string, mode: number, reply: Reply): void {
    guarded('make', file, reply, () => tree.create(file, mode, true) && undefined);
  },
  link(from: string, to: string, reply: Reply): void {
    guarded('link', to, reply, () => tree.link(from, to) as undefined);
  },
  rename(from: string, to: string, reply: Reply): void {
    guarded('rename', to, reply, () => tree.rename(from, to) as undefined);
  },
  unlink(file: string, reply: Reply): void {
    guarded('remove', file, reply, () => tree.remove(file, false) as undefined);
  },
  rmdir(file: string, reply: Reply): void {
    guarded('remove', file, reply, () => tree.remove(file, true) as undefined);
  },
};

function forgetNames(file: string): void {
  try {
    tree.forgetChanges(tree.find(file));
  } catch {
    // it is gone, and its names with it
  }
}

function exportTo(folder: string, directory: Inode, written: Map<Inode, string>): void {
  mkdirSync(folder, { mode: directory.mode });
  for (const [name, inode] of directory.entries) {
    const file = path.join(folder, name);
    const twin = written.get(inode);
    if (inode.isDirectory) exportTo(file, inode, written);
    else if (twin !== undefined) linkSync(twin, file);
    else writeFileSync(file, inode.content, { mode: inode.mode });
    written.set(inode, file);
  }
}

function obey(request: ServerRequest): ServerAnswer {
  if (request.do === 'arm') plan = new FaultPlan(request.fault);
  else if (request.do === 'save') {
    tree.makeAllDurable();
    saved.set(request.name, tree.copy());
  } else if (request.do === 'reset') tree = saved.get(request.name)?.copy() ?? new MemoryTree();
  else if (request.do === 'export') exportTo(request.folder, tree.find('/'), new Map());
  else {
    const ended = plan;
    plan = undefined;
    if (ended === undefined) return { done: true };
    if (ended.cuts) tree = tree.afterPowerCut(ended.survives());
    return { injected: ended.injected };
  }
  return { done: true };
}

function mount(mountPoint: string): void {
  const Fuse = loadFuse();
  const fuse = new Fuse(mountPoint, operations as unknown as FuseOperations, {
    timeout: false,
    fsname: 'faulty',
    subtype: 'faulty',
    kernelCache: false,
    allowOther: false,
    defaultPermissions: false,
  });
  const inherited = fuse._fuseOptions.bind(fuse);
  fuse._fuseOptions = () => `${inherited()},${OPTIONS}`;
  fuse.mount((error) => {
    if (error !== null && error !== undefined) throw error;
    const answer: ServerAnswer = { isMounted: true };
    process.send?.(answer);
  });
}

if (process.argv[1]?.endsWith('faulty-fs/server.js') === true) {
  process.on('message', (request: ServerRequest) => process.send?.(obey(request)));
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL')); // the test is gone; the kernel ends the mount
  mount(process.argv[2] ?? '');
}
