/** Block devices as sysfs and /proc tell of them. */
import { readFile } from 'node:fs/promises';
import { ioError } from '../../bands/errors.ts';
import { SECTOR_BYTES } from '../../bands/format/geometry.ts';

/** `major:minor`. */
export type DeviceNumbers = `${bigint}:${bigint}`;

/** Splits a Linux dev_t (glibc's encoding). */
export function deviceNumbers(rdev: bigint): DeviceNumbers {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The size of a device in bytes, from sysfs (512-byte units whatever the sector size). */
export async function readDeviceSize(device: DeviceNumbers, location: string): Promise<number> {
  try {
    return Number((await readFile(`/sys/dev/block/${device}/size`, 'utf8')).trim()) * SECTOR_BYTES;
  } catch (error) {
    throw ioError(error, 'learn the size of', location);
  }
}

export interface DeviceMount {
  readonly mountPoint: string;
  readonly isWritable: boolean;
}

/** Where a device is mounted, from the text of /proc/self/mountinfo. */
export function mountsOfDevice(mountinfo: string, device: DeviceNumbers): DeviceMount[] {
  const mounts: DeviceMount[] = [];
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    if (fields[2] !== device) continue;
    const superOptions = fields[fields.indexOf('-') + 3] ?? '';
    mounts.push({ mountPoint: fields[4] ?? '', isWritable: superOptions.split(',').includes('rw') });
  }
  return mounts;
}
