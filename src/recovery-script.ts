/**
 * The script that reads a repository without Timeband. `init` puts a copy into every repository, so that it is at hand
 * when this program is not. It is `tools/recover.py` of this package, two folders above the compiled form of this file in
 * a checkout as in an installed package.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { messageOf, TimebandError } from '../bands/errors.ts';

const SOURCE = fileURLToPath(new URL('../../tools/recover.py', import.meta.url));

/** @throws TimebandError IO_ERROR if this installation of Timeband lacks the script */
export async function readRecoveryScript(): Promise<Uint8Array> {
  try {
    return await readFile(SOURCE);
  } catch (cause) {
    throw new TimebandError(`${SOURCE}: the recovery script of this program cannot be read (${messageOf(cause)}). Install Timeband again.`, {
      code: 'IO_ERROR',
      cause,
      path: SOURCE,
    });
  }
}
