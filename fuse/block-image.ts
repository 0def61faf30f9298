/** From an image file to a mounted file system: partition table, loop device, mount; read-only without journal replay. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { TimebandError } from '../bands/errors.ts';
import { runTool } from './tools.ts';

const SECTOR_BYTES = 512;

export interface Partition {
  readonly number: number;
  readonly offset: number;
  readonly sizeBytes: number;
  /** As partx writes it: `0x83`, or a UUID; empty if it tells none. */
  readonly type: string;
}

/** The partitions of an image; none if it has no partition table. */
export async function readPartitions(image: string): Promise<Partition[]> {
  let text: string;
  try {
    text = await runTool('partx', ['--bytes', '--raw', '--noheadings', '--output', 'NR,START,SIZE,TYPE', image]);
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'TOOL_FAILED' && /failed to read partition table|no partition/i.test(error.message))
      return [];
    throw error;
  }
  return parsePartitions(text);
}

/** Parses partx's `NR START SIZE TYPE` lines. */
export function parsePartitions(text: string): Partition[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => (fields.length === 3 || fields.length === 4) && fields.slice(0, 3).map(Number).every(Number.isSafeInteger))
    .map(([number, start, sizeBytes, type = '']) => ({
      number: Number(number),
      offset: Number(start) * SECTOR_BYTES,
      sizeBytes: Number(sizeBytes),
      type,
    }));
}

/** What a loop device shows of an image: a part of it, perhaps, and whether it can be written. */
export interface LoopOptions {
  readonly part?: { readonly offset: number; readonly sizeBytes: number } | undefined;
  readonly isWritable?: boolean;
}

/**
 * Attaches a loop device. One for reading is buffered, so that it uses the file's read-ahead; one for writing goes past the page
 * cache, so that nothing is held twice, and writing back never waits for memory that only writing back frees.
 */
export async function attachLoop(image: string, { part, isWritable = false }: LoopOptions = {}): Promise<string> {
  const window = part === undefined ? [] : ['--offset', String(part.offset), '--sizelimit', String(part.sizeBytes)];
  return (await runTool('losetup', ['--find', '--show', isWritable ? '--direct-io=on' : '--read-only', ...window, image])).trim();
}

export async function detachLoop(device: string): Promise<void> {
  await runTool('losetup', ['--detach', device]);
}

/** The file behind a loop device, or undefined if it has none. */
export async function loopBackingFile(device: string): Promise<string | undefined> {
  try {
    return (await readFile(`/sys/block/${path.basename(device)}/loop/backing_file`, 'utf8')).replace(/\n$/, '');
  } catch {
    return undefined; // the kernel shows that file only while the device is attached
  }
}

/** The loop devices over files in `folder` (an absolute path without links). */
export async function loopsOver(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await readdir('/sys/block').catch(() => [])) {
    const device = `/dev/${name}`;
    if (name.startsWith('loop') && (await loopBackingFile(device))?.startsWith(`${folder}/`) === true) found.push(device);
  }
  return found;
}

/** The type of the file system on a device, or undefined if none is recognised. */
export async function readFileSystemType(device: string): Promise<string | undefined> {
  try {
    const type = (await runTool('blkid', ['--probe', '--output', 'value', '--match-tag', 'TYPE', device])).trim();
    return type === '' ? undefined : type;
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'TOOL_FAILED') return undefined; // blkid exits with 2 where it finds nothing
    throw error;
  }
}

/** Read-only, and without replaying the journal: on a read-only device that would fail, and it would not be the session any more. */
const READ_ONLY_OPTIONS: Readonly<Record<string, string>> = {
  ext2: 'ro',
  ext3: 'ro,noload',
  ext4: 'ro,noload',
  xfs: 'ro,norecovery,nouuid',
  btrfs: 'ro,rescue=nologreplay',
};

/** The disk that the session was made of may be mounted here as well, and has the same UUID: only XFS minds. */
const WRITABLE_OPTIONS: Readonly<Record<string, string>> = { xfs: 'rw,nouuid' };

export function mountOptionsFor(type: string, isWritable = false): string {
  return (isWritable ? WRITABLE_OPTIONS[type] : READ_ONLY_OPTIONS[type]) ?? (isWritable ? 'rw' : 'ro');
}

export interface FileSystemMount {
  readonly device: string;
  readonly type: string;
  readonly directory: string;
  readonly isWritable: boolean;
}

export async function mountFileSystem({ device, type, directory, isWritable }: FileSystemMount): Promise<void> {
  await runTool('mount', ['-t', type, '-o', `${mountOptionsFor(type, isWritable)},nodev,nosuid`, '--', device, directory]);
}
