/** The commands that attach and detach tracked images and live bundles, as a program calls them. */
import { realpath } from 'node:fs/promises';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import { isDeadMount } from '../../fuse/mount-table.ts';
import { stateOf } from '../host.ts';
import { DEFAULT_ASIDE_BYTES } from '../tracked/aside-file.ts';
import { ControlClient } from '../tracked/control-client.ts';
import type { StatusAnswer } from '../tracked/control-protocol.ts';
import { isDetached, trackedFolder } from '../tracked/track-store.ts';
import type { BundleRequest } from './bundle-main.ts';
import { mountPointName } from './mount-point.ts';
import { mountInBackground } from './mounts.ts';
import { type AttachedImage, attachCommand, detachCommand, type MountRecord, MountRegistry } from './registry.ts';
import type { TreePlace } from './serve-tree.ts';
import { isFuseMounted, takeDownWhenFree } from './take-down.ts';
import type { TrackedRequest } from './tracked-main.ts';

const TRACKED_PROGRAM = new URL('./tracked-main.js', import.meta.url);
const BUNDLE_PROGRAM = new URL('./bundle-main.js', import.meta.url);

export interface AttachOptions {
  readonly stateDirectory: string;
  readonly directory: string;
  /** The raw image file or block device, or the bundle. */
  readonly image: string;
  readonly allowOther?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Where an image is attached; paths are absolute and without links. */
export interface Attached {
  readonly image: string;
  readonly directory: string;
}

async function attach(
  kind: AttachedImage['kind'],
  options: AttachOptions,
  program: { readonly url: URL; readonly tell: (request: TreePlace & { readonly location: string }) => object },
): Promise<Attached> {
  const { stateDirectory, signal, allowOther = false } = options;
  const attached: AttachedImage = { kind, location: await realPathOf(options.image) };
  const directory = await mountInBackground(
    { stateDirectory, directory: options.directory, command: attachCommand(attached), signal },
    (mountPoint) => ({
      record: { repository: undefined, attached },
      program: program.url,
      message: program.tell({ mountPoint, allowOther, location: attached.location }),
    }),
  );
  return { image: attached.location, directory };
}

async function realPathOf(image: string): Promise<string> {
  try {
    return await realpath(image);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') throw ioError(error, 'find', image);
    throw new TimebandError(`${image} does not exist. Check the path.`, { code: 'SOURCE_NOT_FOUND', cause: error, path: image });
  }
}

/** Serves a live bundle in the background. @throws TimebandError as attachTracked does */
export async function attachBundle(options: AttachOptions): Promise<Attached> {
  return await attach('bundle', options, { url: BUNDLE_PROGRAM, tell: (request) => request satisfies BundleRequest });
}

/**
 * Serves a tracked image in the background.
 * @returns `doubt`: why the next syncs read everything; undefined: what was known of earlier sessions is known still
 * @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, LOCKED, MOUNT_FAILED, MOUNT_BUSY, INTERRUPTED
 */
export async function attachTracked(
  options: AttachOptions & { /** How much of old contents may be kept while a sync reads. */ readonly asideBytes?: number | undefined },
): Promise<Attached & { readonly doubt: string | undefined }> {
  const { stateDirectory, asideBytes = DEFAULT_ASIDE_BYTES } = options;
  const tell = (request: TreePlace & { readonly location: string }): TrackedRequest => ({ ...request, stateDirectory, asideBytes });
  const attached = await attach('tracked', options, { url: TRACKED_PROGRAM, tell });
  const status = await askStatus(stateDirectory, attached.image);
  return { ...attached, doubt: status?.doubt ?? undefined };
}

async function askStatus(stateDirectory: string, location: string): Promise<StatusAnswer | undefined> {
  const client = await ControlClient.connect(trackedFolder(stateDirectory, location));
  try {
    return await client?.ask('status', {});
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'SOURCE_CHANGED') return undefined; // it has just ended
    throw error;
  } finally {
    client?.close();
  }
}

/**
 * Takes an image down and waits until everything is durable.
 * @throws TimebandError NOT_MOUNTED, LOCKED, MOUNT_BUSY (and it stays up), IO_ERROR (it is down, but could not be made durable)
 */
async function detach(kind: AttachedImage['kind'], stateDirectory: string, target: string): Promise<Attached> {
  const directory = await mountPointName(target);
  const registry = new MountRegistry(stateDirectory);
  await using _lock = await registry.lock(directory, kind === 'tracked' ? 'track detach' : 'bundle detach');
  const record = await registry.get(directory);
  if (record?.attached === undefined) throw notAttached(directory);
  if (record.attached.kind !== kind) {
    const message = `what is attached at ${directory} is taken down with "timeband ${detachCommand(record.attached)} ${directory}".`;
    throw new TimebandError(message, { code: 'USAGE', path: directory });
  }
  await takeDownWhenFree(directory, record);
  const problem = await registry.problemAtEnd(directory);
  await registry.remove(directory);
  if (problem === undefined) return { image: record.attached.location, directory };
  const message = `${directory} was taken down, but not in order: ${problem}. If that is about the disk of ${record.attached.location}, what was written last may be lost: look at it.`;
  throw new TimebandError(message, { code: 'IO_ERROR', path: record.attached.location });
}

function notAttached(directory: string): TimebandError {
  return new TimebandError(`nothing is attached at ${directory}.`, { code: 'NOT_MOUNTED', path: directory });
}

export async function detachBundle(stateDirectory: string, target: string): Promise<Attached> {
  return await detach('bundle', stateDirectory, target);
}

/** @returns `isInOrder`: if not, the next syncs may have to read everything @throws TimebandError NOT_MOUNTED, LOCKED, MOUNT_BUSY */
export async function detachTracked(stateDirectory: string, target: string): Promise<Attached & { readonly isInOrder: boolean }> {
  const detached = await detach('tracked', stateDirectory, target);
  return { ...detached, isInOrder: await isDetached(stateDirectory, detached.image) };
}

export interface TrackedStatus extends Attached {
  /** `dead`: the process that served it has ended; attach it again. */
  readonly state: 'attached' | 'dead';
  /** Undefined if it is dead. */
  readonly details: StatusAnswer | undefined;
}

/** All tracked images that are attached with this state folder, or the one at `target`. @throws TimebandError NOT_MOUNTED */
export async function trackedStatus(stateDirectory: string, target: string | undefined): Promise<TrackedStatus[]> {
  const registry = new MountRegistry(stateDirectory);
  const directory = target === undefined ? undefined : await mountPointName(target);
  const records = (directory === undefined ? await registry.list() : [await registry.get(directory)]).filter((record) => record !== undefined);
  const tracked = records.filter(({ attached }) => attached?.kind === 'tracked');
  if (directory !== undefined && tracked.length === 0) throw notAttached(directory);
  return await Promise.all(tracked.map((record) => statusOf(stateDirectory, record)));
}

async function statusOf(stateDirectory: string, record: MountRecord): Promise<TrackedStatus> {
  const image = record.attached?.location ?? '';
  const details = (await isServed(record)) ? await askStatus(stateDirectory, image) : undefined;
  return { image, directory: record.fusePoint, state: details === undefined ? 'dead' : 'attached', details };
}

async function isServed({ fusePoint, server }: MountRecord): Promise<boolean> {
  const isRunning = server !== undefined && stateOf(server) === 'running';
  return isRunning && isFuseMounted(fusePoint) && !(await isDeadMount(fusePoint));
}
