/** A repository with one session, mounted in the background: where most tests of a mount's life begin. */
import { readSync } from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import type { BandPool } from '../../../bands/workers/band-pool.ts';
import { isSame } from '../../support/bytes.ts';
import { BAND_256K, type Lab } from '../../support/library.ts';
import { mounted, mountLab, writeMixed } from './mount-support.ts';

export interface MountedScene extends Lab {
  readonly bytes: Uint8Array;
  readonly mnt: string;
  /** The image of the volume's newest session, in the mount. */
  readonly image: string;
  /** Whether a file that is open on that image gives its bytes in band `band`. */
  isReadable(fd: number, band: number): boolean;
}

export async function mountedScene(t: ExecutionContext, pool: BandPool): Promise<MountedScene> {
  const space = await mountLab(t, pool);
  const bytes = writeMixed(space.at('img'), 'scene', 12);
  await space.sync('v', space.at('img'));
  const mnt = await mounted(space);
  return {
    ...space,
    bytes,
    mnt,
    image: path.join(mnt, 'v', 'latest', 'image'),
    isReadable(fd, band) {
      const out = new Uint8Array(10_000);
      const at = band * BAND_256K + 1000;
      return readSync(fd, out, 0, out.length, at) === out.length && isSame(out, bytes.subarray(at, at + out.length));
    },
  };
}
