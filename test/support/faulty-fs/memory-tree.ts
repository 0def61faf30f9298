/**
 * A tree of files in memory that knows what of it is durable: what a power cut leaves is what was fsynced.
 *
 * The rules are those that POSIX leaves a careful program: the bytes of a file are durable as of its last fsync, a name as
 * of the last fsync of its folder; a rename is atomic, so making one of its folders durable makes all of it durable; two
 * changes of one name keep their order. Nothing else follows from anything else.
 */

export type Errno = 'ENOENT' | 'EEXIST' | 'ENOTDIR' | 'EISDIR' | 'ENOTEMPTY' | 'EINVAL';

/** What the caller did is not possible here; any file system says the same. */
export class TreeError extends Error {
  readonly errno: Errno;

  constructor(errno: Errno) {
    super(errno);
    this.errno = errno;
  }
}

/** A write that is not durable yet. */
type DataChange = { readonly position: number; readonly bytes: Uint8Array } | { readonly sizeBytes: number };

export interface Inode {
  readonly ino: number;
  readonly isDirectory: boolean;
  links: number;
  mode: number;
  atimeMs: number;
  mtimeMs: number;
  /** Replaced, never written to: copies of the tree share it. */
  content: Uint8Array;
  readonly entries: Map<string, Inode>;
  readonly durable: { content: Uint8Array; readonly entries: Map<string, Inode> };
  dataChanges: DataChange[];
}

interface Naming {
  readonly directory: Inode;
  readonly name: string;
  /** Undefined: the name is gone. */
  readonly inode: Inode | undefined;
}

/** Names that change together. */
type NameChange = readonly Naming[];

/** Which of the changes that are not durable survive a power cut. */
export type Survives = () => boolean;

const NOTHING = new Uint8Array(0);

export class MemoryTree {
  #root: Inode;
  #nextIno = 1;
  #nameChanges: NameChange[] = [];

  constructor() {
    this.#root = this.#newInode(true, 0o700);
  }

  #newInode(isDirectory: boolean, mode: number): Inode {
    const now = Date.now();
    const durable = { content: NOTHING, entries: new Map<string, Inode>() };
    const times = { atimeMs: now, mtimeMs: now };
    return { ino: this.#nextIno++, isDirectory, links: 0, mode, ...times, content: NOTHING, entries: new Map(), durable, dataChanges: [] };
  }

  find(path: string): Inode {
    let inode = this.#root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      if (!inode.isDirectory) throw new TreeError('ENOTDIR');
      const next = inode.entries.get(name);
      if (next === undefined) throw new TreeError('ENOENT');
      inode = next;
    }
    return inode;
  }

  #place(path: string): { readonly directory: Inode; readonly name: string } {
    const at = path.lastIndexOf('/');
    const directory = this.find(path.slice(0, at));
    if (!directory.isDirectory) throw new TreeError('ENOTDIR');
    return { directory, name: path.slice(at + 1) };
  }

  #apply(change: NameChange): void {
    for (const { directory, name, inode } of change) {
      const before = directory.entries.get(name);
      if (before !== undefined) before.links--;
      if (inode === undefined) directory.entries.delete(name);
      else directory.entries.set(name, inode);
      if (inode !== undefined) inode.links++;
      directory.mtimeMs = Date.now();
    }
    this.#nameChanges.push(change);
  }

  create(path: string, mode: number, isDirectory = false): Inode {
    const { directory, name } = this.#place(path);
    if (directory.entries.has(name)) throw new TreeError('EEXIST');
    const inode = this.#newInode(isDirectory, mode & 0o7777);
    this.#apply([{ directory, name, inode }]);
    return inode;
  }

  link(from: string, to: string): void {
    const inode = this.find(from);
    const { directory, name } = this.#place(to);
    if (directory.entries.has(name)) throw new TreeError('EEXIST');
    this.#apply([{ directory, name, inode }]);
  }

  rename(from: string, to: string): void {
    const inode = this.find(from);
    const [old, target] = [this.#place(from), this.#place(to)];
    const replaced = target.directory.entries.get(target.name);
    if (replaced === inode) return;
    if (replaced !== undefined && replaced.isDirectory !== inode.isDirectory) throw new TreeError(inode.isDirectory ? 'ENOTDIR' : 'EISDIR');
    if (replaced !== undefined && replaced.entries.size > 0) throw new TreeError('ENOTEMPTY');
    this.#apply([
      { ...target, inode },
      { ...old, inode: undefined },
    ]);
  }

  remove(path: string, isDirectory: boolean): void {
    const inode = this.find(path);
    if (inode.isDirectory !== isDirectory) throw new TreeError(isDirectory ? 'ENOTDIR' : 'EISDIR');
    if (inode.entries.size > 0) throw new TreeError('ENOTEMPTY');
    this.#apply([{ ...this.#place(path), inode: undefined }]);
  }

  write(inode: Inode, position: number, bytes: Uint8Array): void {
    this.#changeData(inode, { position, bytes: new Uint8Array(bytes) }); // a copy: the buffer is used again
  }

  truncate(inode: Inode, sizeBytes: number): void {
    this.#changeData(inode, { sizeBytes });
  }

  #changeData(inode: Inode, change: DataChange): void {
    if (inode.isDirectory) throw new TreeError('EISDIR');
    inode.content = changed(inode.content, change);
    inode.mtimeMs = Date.now();
    inode.dataChanges.push(change);
  }

  /** fsync of a file or folder. */
  makeDurable(inode: Inode): void {
    inode.durable.content = inode.dataChanges.reduce(changed, inode.durable.content);
    inode.dataChanges = [];
    const wanted = new Set(this.#nameChanges.filter((change) => change.some(({ directory }) => directory === inode)));
    this.#addPredecessors(wanted);
    this.#settle((change) => wanted.has(change));
  }

  /** What has to be durable before: earlier changes of the same names. */
  #addPredecessors(wanted: Set<NameChange>): void {
    const names = new Map<Inode, Set<string>>();
    for (const change of this.#nameChanges.toReversed()) {
      if (!wanted.has(change) && !change.some(({ directory, name }) => names.get(directory)?.has(name) === true)) continue;
      wanted.add(change);
      for (const { directory, name } of change) names.set(directory, (names.get(directory) ?? new Set()).add(name));
    }
  }

  #settle(isWanted: (change: NameChange) => boolean): void {
    for (const change of this.#nameChanges.filter(isWanted)) {
      for (const { directory, name, inode } of change) {
        if (inode === undefined) directory.durable.entries.delete(name);
        else directory.durable.entries.set(name, inode);
      }
    }
    this.#nameChanges = this.#nameChanges.filter((change) => !isWanted(change));
  }

  /** syncfs. */
  makeAllDurable(): void {
    for (const inode of this.#reachable()) this.makeDurable(inode);
    this.#settle(() => true);
  }

  /** An fsync that fails: what it was asked for is in memory, and no later fsync will write it (as Linux has it). */
  forgetChanges(inode: Inode | undefined): void {
    for (const one of inode === undefined ? this.#reachable() : [inode]) one.dataChanges = [];
    this.#nameChanges = this.#nameChanges.filter((change) => inode !== undefined && change.every(({ directory }) => directory !== inode));
  }

  #reachable(): Set<Inode> {
    const all = new Set<Inode>([this.#root]);
    for (const inode of all) for (const child of inode.entries.values()) all.add(child);
    return all;
  }

  /** What is left after a power cut; of the changes that are not durable, those that `survives` says. */
  afterPowerCut(survives: Survives): MemoryTree {
    const lost = new Map<Inode, Set<string>>();
    this.#settle((change) => {
      const isBlocked = change.some(({ directory, name }) => lost.get(directory)?.has(name) === true);
      if (!isBlocked && survives()) return true;
      for (const { directory, name } of change) lost.set(directory, (lost.get(directory) ?? new Set()).add(name));
      return false;
    });
    return this.#copy(
      (inode) => inode.durable.entries,
      (inode) => inode.dataChanges.filter(survives).reduce(changed, inode.durable.content),
    );
  }

  /** A copy in which all is durable. */
  copy(): MemoryTree {
    return this.#copy(
      (inode) => inode.entries,
      (inode) => inode.content,
    );
  }

  #copy(entriesOf: (inode: Inode) => ReadonlyMap<string, Inode>, contentOf: (inode: Inode) => Uint8Array): MemoryTree {
    const tree = new MemoryTree();
    const copies = new Map<Inode, Inode>();
    const copyOf = (inode: Inode): Inode => {
      const known = copies.get(inode);
      if (known !== undefined) return known;
      const content = contentOf(inode);
      const copy: Inode = { ...inode, links: 0, content, entries: new Map(), durable: { content, entries: new Map() }, dataChanges: [] };
      copies.set(inode, copy);
      for (const [name, child] of entriesOf(inode)) {
        const childCopy = copyOf(child);
        childCopy.links++;
        copy.entries.set(name, childCopy);
        copy.durable.entries.set(name, childCopy);
      }
      return copy;
    };
    tree.#root = copyOf(this.#root);
    tree.#nextIno = this.#nextIno;
    return tree;
  }
}

function changed(content: Uint8Array, change: DataChange): Uint8Array {
  const sizeBytes = 'sizeBytes' in change ? change.sizeBytes : Math.max(content.length, change.position + change.bytes.length);
  const next = new Uint8Array(sizeBytes);
  next.set(content.subarray(0, sizeBytes));
  if ('bytes' in change) next.set(change.bytes, change.position);
  return next;
}
