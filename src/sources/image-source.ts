/** The source that always works: a raw image file or a block device, read as it is. It knows nothing of changes. */
import { readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import { type ByteRange, checkVolumeSize } from '../../bands/format/geometry.ts';
import type { BandInput } from '../../bands/workers/tasks.ts';
import { deviceNumbers, mountsOfDevice, readDeviceSize } from './block-device.ts';
import { type DataMap, readDataMap } from './data-map.ts';
import type { ChangeSet, SourceDriver, SourceProbe, SourceView } from './source.ts';
import { SourceFile } from './source-file.ts';

interface Stamp {
  readonly size: number;
  readonly mtimeNs: bigint;
}

class ImageView implements SourceView {
  readonly kind: 'image' | 'device';
  readonly location: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[];
  readonly #file: SourceFile;
  readonly #stamp: Stamp | undefined;

  constructor(
    file: SourceFile,
    facts: {
      kind: 'image' | 'device';
      location: string;
      sizeBytes: number;
      warnings: readonly string[];
      stamp: Stamp | undefined;
    },
  ) {
    this.#file = file;
    this.#stamp = facts.stamp;
    this.kind = facts.kind;
    this.location = facts.location;
    this.sizeBytes = facts.sizeBytes;
    this.warnings = facts.warnings;
  }

  async readDataMap(): Promise<DataMap | undefined> {
    if (this.kind === 'device') return undefined;
    try {
      return await readDataMap({ fd: this.#file.handle.fd, path: this.location, sizeBytes: this.sizeBytes });
    } catch (error) {
      throw ioError(error, 'read the source', this.location);
    }
  }

  changesSince(): Promise<ChangeSet> {
    return Promise.resolve({ isKnown: false, reason: undefined });
  }

  async verifyStable(): Promise<readonly string[]> {
    if (this.#stamp === undefined) return [];
    const now = await this.#file.handle.stat({ bigint: true });
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

  withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return use(this.#file.input(range, data));
  }

  bind(): Promise<void> {
    return Promise.resolve(); // nothing is kept
  }

  committed(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/**
 * Opens a raw image file or block device.
 * @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, PERMISSION_DENIED
 */
export async function openImageSource(location: string): Promise<SourceView> {
  const file = await SourceFile.open(location);
  try {
    const stat = await file.handle.stat({ bigint: true });
    if (stat.isBlockDevice()) return await openDevice(file, location, stat.rdev);
    if (!stat.isFile()) {
      throw new TimebandError(`${location} is neither a regular file nor a block device; name a raw disk image or a device.`, {
        code: 'SOURCE_INVALID',
        path: location,
      });
    }
    const sizeBytes = Number(stat.size);
    checkVolumeSize(sizeBytes, location);
    return new ImageView(file, { kind: 'image', location, sizeBytes, warnings: [], stamp: { size: sizeBytes, mtimeNs: stat.mtimeNs } });
  } catch (error) {
    await file.close();
    throw ioError(error, 'read the source', location);
  }
}

/** What a path is: the drivers of files and devices share it. @throws TimebandError PERMISSION_DENIED, IO_ERROR */
export async function typeOfLocation(location: string): Promise<'file' | 'device' | 'folder' | 'other' | 'missing'> {
  try {
    const found = await stat(location);
    return found.isFile() ? 'file' : found.isBlockDevice() ? 'device' : found.isDirectory() ? 'folder' : 'other';
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return 'missing';
    throw ioError(error, 'look at the source', location);
  }
}

function nothingKept(): Promise<readonly string[]> {
  return Promise.resolve([]);
}

export const imageDriver: SourceDriver = {
  kind: 'image',
  async probe(location): Promise<SourceProbe> {
    const type = await typeOfLocation(location);
    return type === 'device'
      ? { applies: false, reason: 'it is a block device' }
      : { applies: true, reason: 'a raw image file; what changed is found by reading it' };
  },
  open: openImageSource,
  forget: nothingKept,
};

export const deviceDriver: SourceDriver = {
  kind: 'device',
  async probe(location): Promise<SourceProbe> {
    const isDevice = (await typeOfLocation(location)) === 'device';
    return isDevice
      ? { applies: true, reason: 'a block device; what changed is found by reading it' }
      : { applies: false, reason: 'it is not a block device' };
  },
  open: openImageSource,
  forget: nothingKept,
};

async function openDevice(file: SourceFile, location: string, rdev: bigint): Promise<SourceView> {
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
  return new ImageView(file, { kind: 'device', location, sizeBytes, warnings, stamp: undefined });
}

/** The absolute path that is remembered for a source. Links are kept: /dev/VG/LV is a better name than /dev/dm-3. */
export async function absoluteLocation(location: string): Promise<string> {
  const absolute = path.resolve(location);
  return absolute.startsWith('/dev/fd/') || absolute.startsWith('/proc/') ? await realpath(absolute) : absolute;
}
