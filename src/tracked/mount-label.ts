/** How the mount of a tracked image is recognised: by what the mount table calls its source. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { FUSE_TYPE, readMounts } from '../../fuse/mount-table.ts';
import { deviceNumbers } from '../sources/block-device.ts';

const PREFIX = 'timeband-tracked:';

/** @param folder of the image's record */
export function trackedLabel(folder: string, image: string): string {
  return `${PREFIX}${path.basename(folder)}:${image}`;
}

/** The key of the tracked image that the file `location` is, or leads to; undefined if it is none. */
export async function trackedKeyOf(location: string): Promise<string | undefined> {
  const { dev } = await stat(location, { bigint: true });
  const entry = readMounts().find(({ device, type }) => type === FUSE_TYPE && device === deviceNumbers(dev));
  return entry === undefined ? undefined : new RegExp(`^${PREFIX}([0-9a-f]{16}):`).exec(entry.source)?.[1];
}
