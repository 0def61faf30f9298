/** The source that always works: a raw image file or a block device, read as it is. It knows nothing of changes. */
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, realpath } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import { checkVolumeSize } from '../../bands/format/geometry.ts';
import { deviceNumbers, mountsOfDevice, readDeviceSize } from './block-device.ts';
import { type DataMap, readDataMap } from './data-map.ts';
import type { ChangeSet, SourceView } from './source.ts';

interface Stamp {
  readonly size: number;
  readonly mtimeNs: bigint;
}

class ImageView implements SourceView {
  readonly kind: 'image' | 'device';
  readonly location: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[];
  readonly #handle: FileHandle;
  readonly #stamp: Stamp | undefined;

  constructor(
    handle: FileHandle,
    facts: {
      kind: 'image' | 'device';
      location: string;
      sizeBytes: number;
      warnings: readonly string[];
      stamp: Stamp | undefined;
    },
  ) {
    this.#handle = handle;
    this.#stamp = facts.stamp;
    this.kind = facts.kind;
    this.location = facts.location;
    this.sizeBytes = facts.sizeBytes;
    this.warnings = facts.warnings;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  async readDataMap(): Promise<DataMap | undefined> {
    if (this.kind === 'device') return undefined;
    try {
      return await readDataMap({ fd: this.fd, path: this.location, sizeBytes: this.sizeBytes });
    } catch (error) {
      throw ioError(error, 'read the source', this.location);
    }
  }

  changesSince(): Promise<ChangeSet> {
    return Promise.resolve({ isKnown: false, reason: undefined });
  }

  async verifyStable(): Promise<readonly string[]> {
    if (this.#stamp === undefined) return [];
    const now = await this.#handle.stat({ bigint: true });
    if (Number(now.size) !== this.#stamp.size) {
      throw new TimebandError(
        `${this.location} changed its size from ${this.#stamp.size} to ${now.size} bytes while it was read. No session was made; run sync again when its size is at rest.`,
        {
          code: 'SOURCE_CHANGED',
          path: this.location,
        },
      );
    }
    if (now.mtimeNs === this.#stamp.mtimeNs) return [];
    return [
      `${this.location} was written to while it was read: this session may mix old and new data (as after a power cut). Sync a snapshot or a copy of it to be sure.`,
    ];
  }

  committed(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/**
 * Opens a raw image file or block device.
 * @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, PERMISSION_DENIED
 */
export async function openImageSource(location: string): Promise<SourceView> {
  const handle = await openLocation(location);
  try {
    const stat = await handle.stat({ bigint: true });
    if (stat.isBlockDevice()) return await openDevice(handle, location, stat.rdev);
    if (!stat.isFile()) {
      throw new TimebandError(`${location} is neither a regular file nor a block device; name a raw disk image or a device.`, {
        code: 'SOURCE_INVALID',
        path: location,
      });
    }
    const sizeBytes = Number(stat.size);
    checkVolumeSize(sizeBytes, location);
    return new ImageView(handle, { kind: 'image', location, sizeBytes, warnings: [], stamp: { size: sizeBytes, mtimeNs: stat.mtimeNs } });
  } catch (error) {
    await handle.close();
    throw ioError(error, 'read the source', location);
  }
}

async function openLocation(location: string): Promise<FileHandle> {
  try {
    return await open(location, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') throw ioError(error, 'open the source', location);
    throw new TimebandError(`the source ${location} does not exist. Check the path, or say where it is now: NAME=PATH.`, {
      code: 'SOURCE_NOT_FOUND',
      cause: error,
      path: location,
    });
  }
}

async function openDevice(handle: FileHandle, location: string, rdev: bigint): Promise<SourceView> {
  const device = deviceNumbers(rdev);
  const sizeBytes = await readDeviceSize(device, location);
  checkVolumeSize(sizeBytes, location);
  const mounted = mountsOfDevice(await readFile('/proc/self/mountinfo', 'utf8'), device).filter((mount) => mount.isWritable);
  const where = mounted.map((mount) => mount.mountPoint).join(', ');
  const warnings =
    mounted.length === 0
      ? []
      : [
          `${location} is mounted read-write at ${where}: the copy may mix old and new data (as after a power cut). Sync a snapshot of it to be sure.`,
        ];
  return new ImageView(handle, { kind: 'device', location, sizeBytes, warnings, stamp: undefined });
}

/** The absolute path that is remembered for a source. Links are kept: /dev/VG/LV is a better name than /dev/dm-3. */
export async function absoluteLocation(location: string): Promise<string> {
  const absolute = path.resolve(location);
  return absolute.startsWith('/dev/fd/') || absolute.startsWith('/proc/') ? await realpath(absolute) : absolute;
}
