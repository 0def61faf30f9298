/** A mounted image tree: bringing it up, noticing its end, taking it down. One process serves one mount. */
import { accessSync, constants, existsSync, readdirSync, readFileSync, readlinkSync, realpathSync, writeFileSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, ioError, messageOf, TimebandError } from '../bands/errors.ts';
import { type FuseInstance, loadFuse, releaseSession } from './fuse-native.ts';
import type { ImageTree } from './image-tree.ts';
import { FUSE_TYPE, isDeadMount, type MountEntry, mountsAt, unmountPath } from './mount-table.ts';
import { TreeDriver } from './tree-driver.ts';

/** Of those that the kernel sends in the background (read-ahead), so that libfuse needs no threads that it ends again. */
const MAX_REQUESTS = 8;
const READ_AHEAD_KB = 512;
/** libfuse cuts its options at 1023 bytes without a word. */
const MAX_LABEL_LENGTH = 400;
const POLL_MS = 200;
const RELEASE_POLL_MS = 20;

export interface TreeMountOptions {
  readonly mountPoint: string;
  readonly tree: ImageTree;
  /** Shown by mount(8) as the source. */
  readonly label: string;
  readonly allowOther?: boolean;
  readonly onError: (operation: string, path: string, error: unknown) => void;
}

export class TreeMount {
  readonly mountPoint: string;
  /** Settles when the mount is gone, whoever unmounted it. */
  readonly gone: Promise<void>;
  readonly #fuse: FuseInstance;
  readonly #driver: TreeDriver;
  readonly #entry: MountEntry;
  /** The descriptor of the connection to the kernel; libfuse closes it when the kernel has ended the connection. */
  readonly #connection: number | undefined;

  private constructor(mountPoint: string, parts: { fuse: FuseInstance; driver: TreeDriver; entry: MountEntry; connection: number | undefined }) {
    this.mountPoint = mountPoint;
    this.#fuse = parts.fuse;
    this.#driver = parts.driver;
    this.#entry = parts.entry;
    this.#connection = parts.connection;
    this.gone = this.#watch();
  }

  /**
   * Mounts the tree. A dead mount that a killed process left is replaced.
   * @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, FUSE_UNAVAILABLE
   */
  static async up(options: TreeMountOptions): Promise<TreeMount> {
    const mountPoint = await prepareMountPoint(options.mountPoint);
    const allowOther = options.allowOther ?? false;
    checkFuseAccess(allowOther);
    const driver = new TreeDriver(options.tree, { allowOther, onError: options.onError });
    const fuse = createFuse(mountPoint, driver, { label: options.label, allowOther, isWritable: options.tree.isWritable });
    const others = new Set(fuseDescriptors());
    try {
      await new Promise<void>((resolve, reject) => fuse.mount((error) => (error === null || error === undefined ? resolve() : reject(error))));
    } catch (cause) {
      if (mountsAt(mountPoint).some((entry) => entry.type.startsWith('fuse'))) await unmountPath(mountPoint, { isLazy: true });
      throw new TimebandError(`cannot mount at ${mountPoint}: ${messageOf(cause)}`, { code: 'MOUNT_FAILED', cause, path: mountPoint });
    }
    const entry = mountsAt(mountPoint).at(-1);
    if (entry === undefined) throw new TimebandError(`the mount at ${mountPoint} did not come up`, { code: 'MOUNT_FAILED', path: mountPoint });
    raiseReadAhead(entry.device);
    const connection = fuseDescriptors().find((fd) => !others.has(fd));
    return new TreeMount(mountPoint, { fuse, driver, entry, connection });
  }

  #isMounted(): boolean {
    try {
      return mountsAt(this.mountPoint).some((entry) => entry.id === this.#entry.id);
    } catch (error) {
      if (errnoOf(error) === 'EMFILE' || errnoOf(error) === 'ENFILE') return true; // no descriptor free to look with: busy serving
      throw error;
    }
  }

  #isConnected(): boolean {
    return this.#connection === undefined || isFuseDescriptor(this.#connection);
  }

  /**
   * The process is not told when somebody else unmounts, so the mount table is looked at. After a lazy unmount holders go
   * on reading; the kernel need not tell of the last one's close, but ends the connection with it.
   */
  async #watch(): Promise<void> {
    while (this.#isMounted() && this.#isConnected()) await sleep(POLL_MS);
    while (this.#driver.openFiles > 0 && this.#isConnected()) await sleep(RELEASE_POLL_MS);
    await releaseSession(this.#fuse, this.mountPoint);
  }

  /** Unmounts and waits until it is gone. @throws TimebandError MOUNT_BUSY and it stays up */
  async down(): Promise<void> {
    if (this.#isMounted()) await unmountPath(this.mountPoint);
    await this.gone;
  }
}

function isFuseDescriptor(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/fuse';
  } catch {
    return false; // closed
  }
}

function fuseDescriptors(): number[] {
  try {
    return readdirSync('/proc/self/fd').map(Number).filter(isFuseDescriptor);
  } catch {
    return []; // no descriptor free to look with
  }
}

interface FuseSettings {
  readonly label: string;
  readonly allowOther: boolean;
  readonly isWritable: boolean;
}

function createFuse(mountPoint: string, driver: TreeDriver, options: FuseSettings): FuseInstance {
  const Fuse = loadFuse();
  const access = options.isWritable ? 'big_writes' : 'ro'; // 128 KiB a write instead of 4
  const extra = `${access},max_background=${MAX_REQUESTS},congestion_threshold=${MAX_REQUESTS}`;
  const fuse = new Fuse(mountPoint, driver.operations(), {
    timeout: false, // a late answer would go into a buffer that is gone
    fsname: options.label.replaceAll(/[^\w./:@ -]/g, '_').slice(0, MAX_LABEL_LENGTH), // a comma would be read as another option
    subtype: 'timeband',
    kernelCache: true,
    allowOther: options.allowOther,
    defaultPermissions: options.isWritable && options.allowOther, // others may read, and not write
  });
  driver.serveThreads(fuse._threads);
  const inherited = fuse._fuseOptions.bind(fuse);
  fuse._fuseOptions = () => {
    const own = inherited();
    return own === '' || own === undefined ? `-o${extra}` : `${own},${extra}`;
  };
  return fuse;
}

async function prepareMountPoint(mountPoint: string): Promise<string> {
  const absolute = path.resolve(mountPoint);
  if ((await isDeadMount(absolute)) && mountsAt(absolute).at(-1)?.type === FUSE_TYPE) await unmountPath(absolute, { isLazy: true });
  try {
    if (!(await stat(absolute)).isDirectory())
      throw new TimebandError(`${absolute} is not a folder; name an empty one to mount at.`, { code: 'MOUNT_FAILED', path: absolute });
    const real = realpathSync(absolute);
    if (mountsAt(real).length > 0)
      throw new TimebandError(`something is mounted at ${real} already; unmount it first, or name another folder.`, {
        code: 'MOUNT_BUSY',
        path: real,
      });
    if ((await readdir(real)).length > 0)
      throw new TimebandError(`${real} is not empty; name an empty folder to mount at.`, { code: 'MOUNT_FAILED', path: real });
    return real;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT')
      throw new TimebandError(`${absolute} does not exist; make the folder first.`, { code: 'MOUNT_FAILED', cause: error, path: absolute });
    throw ioError(error, 'mount at', absolute);
  }
}

/** libfuse fails without a reason that anyone sees, so the reasons are looked for first. */
function checkFuseAccess(allowOther: boolean): void {
  if (!existsSync('/dev/fuse'))
    throw new TimebandError('/dev/fuse does not exist: this kernel has no FUSE (try "modprobe fuse").', {
      code: 'FUSE_UNAVAILABLE',
      path: '/dev/fuse',
    });
  if (process.getuid?.() === 0) return;
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (cause) {
    throw new TimebandError('/dev/fuse cannot be opened by this user; run as root or have its mode set to 0666.', {
      code: 'FUSE_UNAVAILABLE',
      cause,
      path: '/dev/fuse',
    });
  }
  const folders = ['/usr/local/bin', ...(process.env['PATH'] ?? '').split(':')];
  if (!folders.some((folder) => existsSync(path.join(folder, 'fusermount')))) {
    throw new TimebandError('fusermount is not installed; without it only root can mount (Debian: apt-get install fuse3).', {
      code: 'FUSE_UNAVAILABLE',
    });
  }
  if (allowOther && !/^\s*user_allow_other\b/m.test(existsSync('/etc/fuse.conf') ? readFileSync('/etc/fuse.conf', 'utf8') : '')) {
    throw new TimebandError('--allow-other needs the line "user_allow_other" in /etc/fuse.conf.', {
      code: 'FUSE_UNAVAILABLE',
      path: '/etc/fuse.conf',
    });
  }
}

/** Four requests in flight instead of one; only root may set it, others rely on decoding ahead alone. */
function raiseReadAhead(device: string): void {
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(READ_AHEAD_KB));
  } catch {
    // no more than speed is lost
  }
}
