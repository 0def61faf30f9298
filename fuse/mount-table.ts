/** The kernel's mount table, and unmounting without a shell. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { errnoOf, TimebandError } from '../bands/errors.ts';

const run = promisify(execFile);

/** The type of our own mounts. */
export const FUSE_TYPE = 'fuse.timeband';

export interface MountEntry {
  readonly id: number;
  /** `major:minor`. */
  readonly device: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
}

/** Undoes the kernel's octal escapes of spaces, tabs, newlines and backslashes, over UTF-8 bytes. */
function decodeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Parses the text of /proc/self/mountinfo. */
export function parseMountinfo(text: string): MountEntry[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const fields = line.split(' ');
      const tail = fields.indexOf('-');
      return {
        id: Number(fields[0]),
        device: fields[2] ?? '',
        mountPoint: decodeOctal(fields[4] ?? ''),
        type: fields[tail + 1] ?? '',
        source: decodeOctal(fields[tail + 2] ?? ''),
      };
    });
}

/** All that is mounted. */
export function readMounts(): MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** What is mounted at `mountPoint` (an absolute path without links), the topmost last. */
export function mountsAt(mountPoint: string): MountEntry[] {
  return readMounts().filter((entry) => entry.mountPoint === mountPoint);
}

/** Whether a FUSE mount there has lost its process: every access to it fails with ENOTCONN. */
export async function isDeadMount(mountPoint: string): Promise<boolean> {
  try {
    await stat(mountPoint);
    return false;
  } catch (error) {
    return errnoOf(error) === 'ENOTCONN';
  }
}

function toolError(error: unknown): { readonly isMissing: boolean; readonly text: string } {
  const stderr = typeof error === 'object' && error !== null && 'stderr' in error ? String(error.stderr).trim() : '';
  return { isMissing: errnoOf(error) === 'ENOENT', text: stderr === '' ? String(error) : stderr };
}

/**
 * Unmounts: umount for root, fusermount for others. Never lazily unless asked: a lazy unmount leaves holders reading
 * from a file system that is about to end.
 * @throws TimebandError MOUNT_BUSY, NOT_MOUNTED, TOOL_FAILED
 */
export async function unmountPath(mountPoint: string, options: { readonly isLazy?: boolean } = {}): Promise<void> {
  const lazy = options.isLazy === true;
  const asRoot = ['umount', [...(lazy ? ['-l'] : []), '--', mountPoint]] as const;
  const asUser = ['fusermount', 'fusermount3'].map((tool) => [tool, [lazy ? '-uz' : '-u', '--', mountPoint]] as const);
  const ways = process.getuid?.() === 0 ? [asRoot] : [...asUser, asRoot];
  let last = { isMissing: true, text: 'no unmount program is installed' };
  for (const [tool, args] of ways) {
    try {
      await run(tool, args, { env: { ...process.env, LC_ALL: 'C' } });
      return;
    } catch (error) {
      last = toolError(error);
      if (!last.isMissing) break;
    }
  }
  throw unmountError(mountPoint, last.text);
}

function unmountError(mountPoint: string, text: string): TimebandError {
  if (/target is busy|device or resource busy/i.test(text))
    return new TimebandError(`${mountPoint} is busy: ${text}. Close what uses it (see "fuser -vm ${mountPoint}") and try again.`, {
      code: 'MOUNT_BUSY',
      path: mountPoint,
    });
  if (/not mounted|not found in|no mount point/i.test(text))
    return new TimebandError(`${mountPoint} is not mounted.`, { code: 'NOT_MOUNTED', path: mountPoint });
  return new TimebandError(`cannot unmount ${mountPoint}: ${text}`, { code: 'TOOL_FAILED', path: mountPoint });
}
