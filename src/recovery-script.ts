/**
 * The script that reads a repository without Timeband. `init` puts a copy into every repository, so that it is at hand
 * when this program is not; a new key slot brings an older copy up to date. It is `tools/recover.py` of this package, two
 * folders above the compiled form of this file in a checkout as in an installed package.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { messageOf, TimebandError } from '../bands/errors.ts';
import { utf8 } from '../bands/format/bytes.ts';
import { readRegularFile, replaceFile } from '../bands/store/files.ts';
import type { RepositoryLayout } from './layout.ts';
import { REPOSITORY_README } from './repository-readme.ts';

const SOURCE = fileURLToPath(new URL('../../tools/recover.py', import.meta.url));
const MAX_SCRIPT_BYTES = 4_194_304;

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

/** Puts this version's script, and README.txt with it, into a repository that has an older one or none. */
export async function refreshRecoveryScript(layout: RepositoryLayout): Promise<void> {
  const script = await readRecoveryScript();
  if (versionOf(script) <= (await presentVersion(layout.recoveryScript))) return;
  await replaceFile(layout.readme, utf8(REPOSITORY_README));
  await replaceFile(layout.recoveryScript, script);
}

/** What stands there may be anything: what is no script of ours is replaced like an old one. */
async function presentVersion(file: string): Promise<number> {
  return await readRegularFile(file, { maxBytes: MAX_SCRIPT_BYTES, what: 'recovery script' }).then(versionOf, () => 0);
}

/** The first one had no number. */
function versionOf(script: Uint8Array): number {
  return Number(/^VERSION = (\d{1,6})$/m.exec(new TextDecoder().decode(script))?.[1] ?? 0);
}
