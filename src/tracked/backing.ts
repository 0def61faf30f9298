/** The file or device behind a tracked image: opened so that nobody else writes to it, and its state in a few numbers. */
import { type BigIntStats, constants, fstatSync } from 'node:fs';
import { type FileHandle, open, readFile, realpath, statfs } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import { checkVolumeSize } from '../../bands/format/geometry.ts';
import { loopDeviceOver } from '../../fuse/block-image.ts';
import { lockAgainstAll } from '../file-lock.ts';
import { bootId } from '../host.ts';
import { type DeviceNumbers, deviceNumbers, readDeviceSize } from '../sources/block-device.ts';
import { TRUSTED_FILE_SYSTEMS } from '../sources/data-map.ts';
import type { ImageStamp } from './track-record.ts';

/** Longer than a tick of the clock that local file systems take their times from. */
const LOCAL_TICK_MS = 20;
/** HFS+, FAT and SMB tick every one or two seconds. */
const COARSE_TICK_MS = 2100;
const SECTORS_WRITTEN_FIELD = 6;
const SECTORS_DISCARDED_FIELD = 13;

/** What tells an open file or device from any other of this machine. */
export function identityOf(fd: number): string {
  const facts = fstatSync(fd, { bigint: true });
  return facts.isBlockDevice() ? `device ${facts.rdev}` : `file ${facts.dev} ${facts.ino}`;
}

export class Backing {
  /** Absolute, without links. */
  readonly path: string;
  readonly handle: FileHandle;
  readonly sizeBytes: number;
  readonly #device: DeviceNumbers | undefined;
  readonly #tickMs: number;

  private constructor(path: string, parts: { handle: FileHandle; sizeBytes: number; device: DeviceNumbers | undefined; tickMs: number }) {
    this.path = path;
    this.handle = parts.handle;
    this.sizeBytes = parts.sizeBytes;
    this.#device = parts.device;
    this.#tickMs = parts.tickMs;
  }

  /** @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, LOCKED (in use elsewhere), PERMISSION_DENIED, TOOL_MISSING */
  static async open(location: string): Promise<Backing> {
    const { real, facts } = await lookAt(location);
    const handle = await openExclusively(real, facts);
    try {
      const device = facts.isBlockDevice() ? deviceNumbers(facts.rdev) : undefined;
      if (device === undefined) await keepOthersOut(handle, real, facts);
      const sizeBytes = device === undefined ? Number(facts.size) : await readDeviceSize(device, real);
      checkVolumeSize(sizeBytes, real);
      const { type } = await statfs(real);
      return new Backing(real, { handle, sizeBytes, device, tickMs: TRUSTED_FILE_SYSTEMS.has(type) ? LOCAL_TICK_MS : COARSE_TICK_MS });
    } catch (error) {
      await handle.close();
      throw ioError(error, 'attach', real);
    }
  }

  /** As it is now. A file that is being written to may have the same stamp a tick of the clock later. */
  async stamp(): Promise<ImageStamp> {
    if (this.#device !== undefined) return await deviceStamp(this.#device, this.path);
    return this.#fileStamp();
  }

  /** The stamp of a file, without waiting; undefined: it is a device. */
  stampNow(): ImageStamp | undefined {
    return this.#device === undefined ? this.#fileStamp() : undefined;
  }

  #fileStamp(): ImageStamp {
    const { ino, birthtimeNs, mtimeNs, ctimeNs } = fstatSync(this.handle.fd, { bigint: true });
    return { kind: 'file', ino: String(ino), birthNs: String(birthtimeNs), mtimeNs: String(mtimeNs), ctimeNs: String(ctimeNs) };
  }

  /** The stamp of an image that nothing is written to any more: whatever is written to it later changes it. */
  async finalStamp(): Promise<ImageStamp> {
    await sleep(this.#tickMs);
    return await this.stamp();
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

async function lookAt(location: string): Promise<{ readonly real: string; readonly facts: BigIntStats }> {
  const absolute = path.resolve(location);
  try {
    const real = await realpath(absolute);
    await using handle = await open(real, constants.O_RDONLY | constants.O_NONBLOCK);
    const facts = await handle.stat({ bigint: true });
    if (facts.isFile() || facts.isBlockDevice()) return { real, facts };
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') throw ioError(error, 'attach', absolute);
    throw new TimebandError(`${absolute} does not exist; name a raw disk image or a block device.`, {
      code: 'SOURCE_NOT_FOUND',
      cause: error,
      path: absolute,
    });
  }
  throw new TimebandError(`${absolute} is neither a regular file nor a block device; name a raw disk image or a device.`, {
    code: 'SOURCE_INVALID',
    path: absolute,
  });
}

/** O_EXCL on a block device: the kernel refuses one that is mounted or otherwise in use, and keeps others from it. */
async function openExclusively(real: string, facts: BigIntStats): Promise<FileHandle> {
  try {
    return await open(real, constants.O_RDWR | (facts.isBlockDevice() ? constants.O_EXCL : 0));
  } catch (error) {
    if (errnoOf(error) !== 'EBUSY') throw ioError(error, 'attach', real);
    throw inUse(real, 'it is mounted, attached already, or held by another device. Unmount it first', error);
  }
}

/** What others write to a file that is attached would not be marked. @throws TimebandError LOCKED */
async function keepOthersOut(handle: FileHandle, real: string, facts: BigIntStats): Promise<void> {
  const loop = await loopDeviceOver(facts);
  if (loop !== undefined) throw inUse(real, `the loop device ${loop} is over it. Detach it first (losetup --detach ${loop})`);
  const outcome = await lockAgainstAll(handle, real);
  if (outcome === 'locked') return;
  if (outcome === 'held') throw inUse(real, 'another program holds a lock on it (a running VM, or it is attached already)');
  throw new TimebandError(`${real} cannot be locked (${outcome}), so others could write to it unseen. Move it to a local file system.`, {
    code: 'UNSUPPORTED',
    path: real,
  });
}

function inUse(real: string, what: string, cause?: unknown): TimebandError {
  return new TimebandError(`${real} is in use: ${what}. Nothing was attached.`, { code: 'LOCKED', cause, path: real });
}

/** Counts of the device, and of the disk that a partition is on: what is written to that may have been meant for the partition. */
async function deviceStamp(device: DeviceNumbers, location: string): Promise<ImageStamp> {
  const folder = `/sys/dev/block/${device}`;
  try {
    const disk = (await readFile(`${folder}/partition`, 'utf8').catch(() => undefined)) === undefined ? folder : path.dirname(await realpath(folder));
    const sequence = (await readFile(`${disk}/diskseq`, 'utf8').catch(() => '')).trim(); // kernels before 5.15 have none
    const counts = [await writeCounts(folder), await writeCounts(disk)];
    return { kind: 'device', device, bootId: bootId() ?? '', sequence, sectorsWritten: counts.join(' ') };
  } catch (error) {
    throw ioError(error, 'learn what was written to', location);
  }
}

async function writeCounts(folder: string): Promise<string> {
  const fields = (await readFile(`${folder}/stat`, 'utf8')).trim().split(/\s+/);
  return `${fields[SECTORS_WRITTEN_FIELD]}/${fields[SECTORS_DISCARDED_FIELD] ?? ''}`;
}
