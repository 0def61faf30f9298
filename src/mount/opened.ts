/** The commands `open` and `close`, as a program calls them. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { ioError, messageOf, TimebandError } from '../../bands/errors.ts';
import { attachLoop, mountReadOnly, type Partition, readFileSystemType, readPartitions } from '../../fuse/block-image.ts';
import { mountsAt } from '../../fuse/mount-table.ts';
import type { Repository } from '../repository.ts';
import { startServer, throwIfInterrupted } from './background.ts';
import { mountPointName } from './mount-point.ts';
import type { BackgroundMountOptions } from './mounts.ts';
import { type MountRecord, MountRegistry } from './registry.ts';
import { IMAGE_NAME } from './session-tree.ts';
import { clearRemains, closeRecord } from './take-down.ts';

export interface OpenSessionOptions extends BackgroundMountOptions {
  readonly volume: string;
  /** A session's id. */
  readonly session: string;
  readonly partition?: number | undefined;
}

export interface OpenedSession {
  readonly directory: string;
  readonly session: string;
  readonly loop: string;
  readonly fileSystem: string;
}

/**
 * Opens a session all the way: FUSE image, read-only loop device, file system mounted read-only at `directory`.
 * @throws TimebandError naming the step that failed or was interrupted; the earlier ones are undone
 */
export async function openSession(repository: Repository, options: OpenSessionOptions): Promise<OpenedSession> {
  const directory = await mountPointName(options.directory);
  if (process.getuid?.() !== 0)
    throw new TimebandError(
      'open needs root for the loop device and the mount. Without root, use "timeband mount" and read the image with other tools.',
      { code: 'PERMISSION_DENIED' },
    );
  const registry = new MountRegistry(options.stateDirectory);
  await using _lock = await registry.lock(directory, 'open');
  await checkTarget(directory);
  await clearRemains(registry, directory);
  const opening = new Opening(repository, options, { registry, directory, fusePoint: await registry.makeFusePoint(directory) });
  try {
    return await opening.run();
  } catch (error) {
    const left = await closeRecord(registry, directory, opening.record).then(
      () => 'The steps before it were undone.',
      (problem: unknown) => `Not undone: ${messageOf(problem)} Run "timeband close ${directory}".`,
    );
    const isInterrupted = options.signal?.aborted === true; // then it may have been a tool that the same Ctrl-C ended
    throw new TimebandError(`cannot open ${options.volume}@${options.session}: failed to ${opening.step}: ${messageOf(error)} ${left}`, {
      code: isInterrupted ? 'INTERRUPTED' : error instanceof TimebandError ? error.code : 'IO_ERROR',
      cause: error,
      path: directory,
    });
  }
}

/** The steps of `open`. What a step makes is noted before the next, so that whatever kills this process, `close` finds it. */
class Opening {
  step = 'note what is opened';
  record: MountRecord;
  readonly #repository: Repository;
  readonly #options: OpenSessionOptions;
  readonly #registry: MountRegistry;
  readonly #directory: string;

  constructor(repository: Repository, options: OpenSessionOptions, at: { registry: MountRegistry; directory: string; fusePoint: string }) {
    this.#repository = repository;
    this.#options = options;
    this.#registry = at.registry;
    this.#directory = at.directory;
    this.record = { server: undefined, repository: repository.layout.root, fusePoint: at.fusePoint, opened: { loop: undefined } };
  }

  async #note(change: Partial<MountRecord>): Promise<void> {
    this.record = { ...this.record, ...change };
    await this.#registry.put(this.#directory, this.record);
  }

  #begin(step: string): void {
    throwIfInterrupted(this.#options.signal);
    this.step = step;
  }

  async run(): Promise<OpenedSession> {
    const { session, partition } = this.#options;
    await this.#note({});
    this.#begin('mount the session with FUSE');
    await this.#serve();
    const image = path.join(this.record.fusePoint, IMAGE_NAME);
    this.#begin('read the partition table');
    const part = await choosePartition(image, partition);
    this.#begin('attach a loop device');
    const loop = await attachLoop(image, part);
    await this.#note({ opened: { loop } });
    this.#begin('recognise the file system');
    const fileSystem = await readFileSystemType(loop);
    if (fileSystem === undefined)
      throw new TimebandError('no file system that blkid knows is on it. The image itself can be read through "timeband mount".', {
        code: 'UNSUPPORTED',
      });
    this.#begin(`mount its ${fileSystem} file system`);
    await mountReadOnly(loop, fileSystem, this.#directory);
    return { directory: this.#directory, session, loop, fileSystem };
  }

  async #serve(): Promise<void> {
    const { volume, session, cacheBytes } = this.#options;
    const request = { mountPoint: this.record.fusePoint, allowOther: false, cacheBytes, only: { volume, session } };
    await startServer(
      { root: this.#repository.layout.root, key: this.#repository.exportKey(), request },
      { logFile: await this.#registry.newLogFile(this.#directory), onStarted: (server) => this.#note({ server }), signal: this.#options.signal },
    );
  }
}

async function checkTarget(directory: string): Promise<void> {
  try {
    if (!(await stat(directory)).isDirectory()) throw new TimebandError(`${directory} is not a folder.`, { code: 'TARGET_INVALID', path: directory });
  } catch (error) {
    throw ioError(error, 'use', directory);
  }
  if (mountsAt(directory).length > 0)
    throw new TimebandError(`something is mounted at ${directory} already; close or unmount it first.`, { code: 'MOUNT_BUSY', path: directory });
}

async function choosePartition(image: string, wanted: number | undefined): Promise<Partition | undefined> {
  const partitions = await readPartitions(image);
  const list = partitions.map((one) => `${one.number} (${one.sizeBytes} bytes)`).join(', ');
  if (wanted === undefined) {
    if (partitions.length === 0) return undefined;
    throw new TimebandError(`the image has a partition table; choose one with --partition: ${list}.`, { code: 'USAGE' });
  }
  const found = partitions.find((one) => one.number === wanted);
  if (found !== undefined) return found;
  throw new TimebandError(
    partitions.length === 0 ? 'the image has no partition table; leave --partition out.' : `there is no partition ${wanted}; there are ${list}.`,
    { code: 'USAGE' },
  );
}

/** Takes an opened session down. @throws TimebandError NOT_MOUNTED, LOCKED, MOUNT_BUSY (and it stays open) */
export async function closeSession(stateDirectory: string, target: string): Promise<string> {
  const directory = await mountPointName(target);
  const registry = new MountRegistry(stateDirectory);
  await using _lock = await registry.lock(directory, 'close');
  const record = await registry.get(directory);
  if (record?.opened === undefined)
    throw new TimebandError(`nothing was opened at ${directory} with "timeband open".`, { code: 'NOT_MOUNTED', path: directory });
  await closeRecord(registry, directory, record);
  return directory;
}
