/** Running the system's own programs (losetup, mount, blkid, partx) without a shell. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { errnoOf, TimebandError } from '../bands/errors.ts';

const run = promisify(execFile);
const MAX_OUTPUT_BYTES = 4_194_304;

/** Runs a program and gives its output. @throws TimebandError TOOL_MISSING, TOOL_FAILED with what it said */
export async function runTool(tool: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run(tool, args, { maxBuffer: MAX_OUTPUT_BYTES, env: { ...process.env, LC_ALL: 'C' } });
    return stdout;
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT')
      throw new TimebandError(`the program "${tool}" is not installed (Debian: apt-get install util-linux mount)`, { code: 'TOOL_MISSING', cause });
    const stderr = typeof cause === 'object' && cause !== null && 'stderr' in cause ? String(cause.stderr).trim() : '';
    throw new TimebandError(`${tool} failed: ${stderr === '' ? String(cause) : stderr}`, { code: 'TOOL_FAILED', cause });
  }
}
