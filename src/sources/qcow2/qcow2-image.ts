/** A qcow2 image as `qemu-img` tells of it and changes it: its size, its chain of backing files, its bitmaps. */
import { open, rm, stat } from 'node:fs/promises';
import { ioError, TimebandError } from '../../../bands/errors.ts';
import { viewOf } from '../../../bands/format/bytes.ts';
import { SECTOR_BYTES } from '../../../bands/format/geometry.ts';
import { typeOfLocation } from '../image-source.ts';
import { imageOptions, runQemuTool } from './qemu-tools.ts';

/** "QFI" 0xfb, u32 version (2 or 3), u64 where the backing file's name is; in version 3 u64 features at byte 72. Big-endian. */
const MAGIC = 0x514649fb;
const HEADER_BYTES = 80;
const FEATURE_DATA_FILE = 4n;
/** A file that changed so shortly ago may change again without another time stamp. */
const UNSETTLED_MS = 2000;
const MARKS_NAME = 'marks';

export interface Qcow2Bitmap {
  readonly name: string;
  /** It was open when its writer was killed, or is open now: its bits are not all there. */
  readonly isInUse: boolean;
  /** Whether it records writes. */
  readonly isEnabled: boolean;
}

export interface Qcow2Info {
  readonly sizeBytes: number;
  readonly clusterBytes: number;
  readonly isCorrupt: boolean;
  readonly isEncrypted: boolean;
  /** An external data file, if it has one. */
  readonly dataFile: string | undefined;
  readonly bitmaps: readonly Qcow2Bitmap[];
  /** The backing files, nearest first. */
  readonly backing: readonly string[];
}

/** What the first bytes of a qcow2 image say. */
export interface Qcow2Header {
  /** A backing file, or an external data file. */
  readonly refersToOthers: boolean;
}

/**
 * Reads the header without QEMU, which might open the files that it names; undefined if this is no qcow2 image.
 * @throws TimebandError PERMISSION_DENIED, IO_ERROR
 */
export async function readQcow2Header(file: string): Promise<Qcow2Header | undefined> {
  const bytes = new Uint8Array(HEADER_BYTES);
  try {
    await using handle = await open(file, 'r');
    if ((await handle.read(bytes, 0, bytes.length, 0)).bytesRead < bytes.length) return undefined;
  } catch (error) {
    throw ioError(error, 'read the source', file);
  }
  const view = viewOf(bytes);
  const version = view.getUint32(4);
  if (view.getUint32(0) !== MAGIC || (version !== 2 && version !== 3)) return undefined;
  const hasDataFile = version === 3 && (view.getBigUint64(72) & FEATURE_DATA_FILE) !== 0n;
  return { refersToOthers: hasDataFile || view.getBigUint64(8) !== 0n };
}

export class Qcow2Image {
  readonly path: string;
  /** For `--image-opts`. */
  readonly options: string;
  /** Whether it lies on a block device. */
  readonly isDevice: boolean;

  private constructor(path: string, isDevice: boolean) {
    this.path = path;
    this.isDevice = isDevice;
    this.options = imageOptions(path, isDevice);
  }

  /** @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID */
  static async at(path: string): Promise<Qcow2Image> {
    const type = await typeOfLocation(path);
    if (type === 'file' || type === 'device') return new Qcow2Image(path, type === 'device');
    throw type === 'missing'
      ? new TimebandError(`the source ${path} does not exist. Check the path, or say where it is now: NAME=PATH.`, { code: 'SOURCE_NOT_FOUND', path })
      : new TimebandError(`${path} is neither a regular file nor a block device; name a qcow2 image.`, { code: 'SOURCE_INVALID', path });
  }

  /** @throws TimebandError as runQemuTool */
  async readInfo(): Promise<Qcow2Info> {
    const text = await runQemuTool('qemu-img', ['info', '--backing-chain', '--output=json', '--image-opts', this.options], this.path);
    try {
      return parseInfo(JSON.parse(text));
    } catch (cause) {
      throw new TimebandError(`qemu-img says of ${this.path} what is not understood: ${text.slice(0, 200)}`, {
        code: 'TOOL_FAILED',
        cause,
        path: this.path,
      });
    }
  }

  /**
   * Adds a bitmap that records from now on, and in which the sectors at `marks` are dirty. These are taken over from a
   * bitmap of an empty image of the same size, made for that: nothing is written to this disk.
   * @throws TimebandError as runQemuTool
   */
  async addBitmap(name: string, { granularityBytes, sizeBytes, marks, scratch }: NewBitmap): Promise<void> {
    const granularity = ['-g', String(granularityBytes)];
    try {
      await runQemuTool('qemu-img', ['create', '-q', '-f', 'qcow2', scratch, String(sizeBytes)], scratch);
      await runQemuTool('qemu-img', ['bitmap', '--add', ...granularity, '-f', 'qcow2', scratch, MARKS_NAME], scratch);
      const writes = marks.flatMap((offset) => ['-c', `write -z ${offset} ${SECTOR_BYTES}`]);
      await runQemuTool('qemu-io', ['-f', 'qcow2', ...writes, scratch], scratch);
      const merge = ['--add', ...granularity, '--merge', MARKS_NAME, '-b', scratch, '-F', 'qcow2'];
      await runQemuTool('qemu-img', ['bitmap', ...merge, '--image-opts', this.options, name], this.path);
    } finally {
      await rm(scratch, { force: true });
    }
  }

  /** @throws TimebandError as runQemuTool */
  async removeBitmap(name: string): Promise<void> {
    await runQemuTool('qemu-img', ['bitmap', '--remove', '--image-opts', this.options, name], this.path);
  }
}

export interface NewBitmap {
  readonly granularityBytes: number;
  /** Of the disk. */
  readonly sizeBytes: number;
  readonly marks: readonly number[];
  /** Where a small file may be for a moment; an absolute path. */
  readonly scratch: string;
}

interface InfoJson {
  readonly 'virtual-size': number;
  readonly 'cluster-size'?: number;
  readonly filename: string;
  readonly encrypted?: boolean;
  readonly 'format-specific'?: {
    readonly data?: {
      readonly corrupt?: boolean;
      readonly 'data-file'?: string;
      readonly bitmaps?: readonly { readonly name: string; readonly flags: readonly string[] }[];
    };
  };
}

function parseInfo(chain: readonly InfoJson[]): Qcow2Info {
  const [image, ...backing] = chain;
  if (image === undefined || !Number.isSafeInteger(image['virtual-size'])) throw new TypeError('chain: no image in it');
  const { corrupt = false, bitmaps = [], 'data-file': dataFile } = image['format-specific']?.data ?? {};
  return {
    sizeBytes: image['virtual-size'],
    clusterBytes: image['cluster-size'] ?? 65_536,
    isCorrupt: corrupt,
    isEncrypted: image.encrypted ?? false,
    dataFile,
    bitmaps: bitmaps.map(({ name, flags }) => ({ name, isInUse: flags.includes('in-use'), isEnabled: flags.includes('auto') })),
    backing: backing.map(({ filename }) => filename),
  };
}

/**
 * What tells whether backing files are as they were: empty for none, undefined if that cannot be told (one is no regular
 * file, or was written to a moment ago).
 */
export async function stampFiles(files: readonly string[]): Promise<string | undefined> {
  const stamps: string[] = [];
  for (const file of files) {
    const found = await stat(file, { bigint: true }).catch(() => undefined);
    if (found === undefined || !found.isFile() || Date.now() - Number(found.mtimeMs) < UNSETTLED_MS) return undefined;
    stamps.push([found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':'));
  }
  return stamps.join(' ');
}
