/** While the key is derived (half a second), the disk may as well begin to read the source into the kernel's cache. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { readDataMap } from './data-map.ts';
import { loadLibc } from './libc.ts';

const WARM_BYTES = 1_073_741_824;
const STEP_BYTES = 8_388_608;

/** Asks for the first GiB of data of a file. Only a hint: whatever goes wrong here is found again, and told, by sync. */
export async function warmSource(location: string): Promise<void> {
  const libc = loadLibc();
  if (libc === undefined) return;
  try {
    await using handle = await open(location, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await handle.stat();
    if (!stat.isFile()) return;
    const map = await readDataMap({ fd: handle.fd, path: location, sizeBytes: stat.size });
    let left = WARM_BYTES;
    for (const { offset, length } of map?.ranges ?? [{ offset: 0, length: stat.size }]) {
      for (let at = 0; at < length && left > 0; at += STEP_BYTES) {
        const part = Math.min(STEP_BYTES, length - at, left);
        await libc.adviseWillNeed(handle.fd, offset + at, part);
        left -= part;
      }
    }
  } catch {
    // a hint that could not be given
  }
}
