/** The commands `mount` and `unmount`, as a program calls them. */
import { TimebandError } from '../../bands/errors.ts';
import { isDeadMount, mountsAt } from '../../fuse/mount-table.ts';
import { BackgroundServer } from '../background/start.ts';
import type { ProcessIdentity } from '../host.ts';
import type { Repository } from '../repository.ts';
import { mountPointName } from './mount-point.ts';
import { detachCommand, type MountRecord, MountRegistry } from './registry.ts';
import { clearRemains, isFuseMounted, takeDownFuse } from './take-down.ts';

const PROGRAM = new URL('./server-main.js', import.meta.url);

/** A process that can serve repositories and sessions. Whoever opens a repository for it starts it before. */
export async function startMountServer(stateDirectory: string): Promise<BackgroundServer> {
  return await BackgroundServer.start(PROGRAM, new MountRegistry(stateDirectory).directory);
}

export interface BackgroundMountOptions {
  readonly stateDirectory: string;
  readonly directory: string;
  readonly allowOther?: boolean;
  readonly cacheBytes?: number | undefined;
  /** Aborted: what was begun is undone. */
  readonly signal?: AbortSignal | undefined;
  /** Started ahead; else one is started. */
  readonly server?: BackgroundServer | undefined;
}

export interface MountRepositoryOptions extends BackgroundMountOptions {
  /** Where scratch overlays are made; undefined: nothing can be written. */
  readonly scratchFolder?: string | undefined;
}

/** Mounts all volumes and sessions in the background. @throws TimebandError MOUNT_FAILED, MOUNT_BUSY, LOCKED, FUSE_UNAVAILABLE, INTERRUPTED */
export async function mountRepository(repository: Repository, options: MountRepositoryOptions): Promise<string> {
  const { allowOther = false, cacheBytes, scratchFolder } = options;
  const { root } = repository.layout;
  return await mountInBackground({ ...options, command: 'mount' }, (mountPoint) => ({
    record: { repository: root },
    program: PROGRAM,
    message: {
      root,
      key: repository.exportKey(),
      request: { mountPoint, allowOther, cacheBytes, only: undefined, scratchFolder },
    },
  }));
}

/** What a mount in the background serves, and what is noted of it. */
export interface BackgroundMount {
  readonly record: Pick<MountRecord, 'repository' | 'attached'>;
  /** The module that serves it, and what it is told. */
  readonly program: URL;
  readonly message: object;
}

/** Starts a process that serves a mount, and notes it. @returns the mount point */
export async function mountInBackground(
  options: Pick<BackgroundMountOptions, 'stateDirectory' | 'directory' | 'signal' | 'server'> & { readonly command: string },
  describe: (mountPoint: string) => BackgroundMount,
): Promise<string> {
  const directory = await mountPointName(options.directory);
  const registry = new MountRegistry(options.stateDirectory);
  await using _lock = await registry.lock(directory, options.command);
  await checkNotMounted(directory);
  await clearRemains(registry, directory);
  const { record, program, message } = describe(directory);
  const onStarted = (server: ProcessIdentity): Promise<void> =>
    registry.put(directory, { ...record, fusePoint: directory, opened: undefined, server });
  try {
    await using server = options.server ?? (await BackgroundServer.start(program, registry.directory));
    await server.serve(message, {
      path: directory,
      logFile: await registry.newLogFile(directory),
      onStarted,
      signal: options.signal,
    });
    return directory;
  } catch (error) {
    if (await isDeadMount(directory)) await takeDownFuse(directory, undefined); // what a server leaves that crashed on its way up
    await registry.remove(directory);
    throw error;
  }
}

/** A dead mount is no obstacle: the server replaces it. */
async function checkNotMounted(directory: string): Promise<void> {
  if (mountsAt(directory).length === 0 || (await isDeadMount(directory))) return;
  throw new TimebandError(`something is mounted at ${directory} already; unmount it first, or name another folder.`, {
    code: 'MOUNT_BUSY',
    path: directory,
  });
}

/** @throws TimebandError NOT_MOUNTED, LOCKED, MOUNT_BUSY (and it stays up) */
export async function unmountRepository(stateDirectory: string, target: string): Promise<string> {
  const directory = await mountPointName(target);
  const registry = new MountRegistry(stateDirectory);
  await using _lock = await registry.lock(directory, 'unmount');
  const record = await registry.get(directory);
  if (record?.opened !== undefined)
    throw new TimebandError(`${directory} was opened with "timeband open"; take it down with "timeband close ${directory}".`, {
      code: 'MOUNT_BUSY',
      path: directory,
    });
  if (record?.attached !== undefined)
    throw new TimebandError(`${directory} was attached; take it down with "timeband ${detachCommand(record.attached)} ${directory}".`, {
      code: 'MOUNT_BUSY',
      path: directory,
    });
  if (!isFuseMounted(directory)) {
    await registry.remove(directory);
    throw new TimebandError(`${directory} is not a Timeband mount.`, { code: 'NOT_MOUNTED', path: directory });
  }
  await takeDownFuse(directory, record);
  await registry.remove(directory);
  return directory;
}
