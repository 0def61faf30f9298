/** Running the system's own programs (losetup, mount, blkid, partx, checkers) without a shell. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { errnoOf, TimebandError } from '../bands/errors.ts';

const run = promisify(execFile);
const MAX_OUTPUT_BYTES = 4_194_304;
/** Of what a checker says, so much is kept from the beginning. */
const MAX_CHECKER_OUTPUT = 65_536;
const KILL_AFTER_MS = 10_000;

/** Messages in English. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C' };
}

/** Runs a program and gives its output. @throws TimebandError TOOL_MISSING, TOOL_FAILED with what it said */
export async function runTool(tool: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run(tool, args, { maxBuffer: MAX_OUTPUT_BYTES, env: environment() });
    return stdout;
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT')
      throw new TimebandError(`the program "${tool}" is not installed (Debian: apt-get install util-linux mount)`, { code: 'TOOL_MISSING', cause });
    const stderr = typeof cause === 'object' && cause !== null && 'stderr' in cause ? String(cause.stderr).trim() : '';
    throw new TimebandError(`${tool} failed: ${stderr === '' ? String(cause) : stderr}`, { code: 'TOOL_FAILED', cause });
  }
}

/** How a program ended that tells something by its status. */
export interface ToolRun {
  readonly status: number;
  /** Its stdout and stderr as they came, cut if there is too much. */
  readonly output: string;
}

/**
 * Runs a program to its end, however long that takes.
 * @returns undefined if it is not installed @throws TimebandError INTERRUPTED, TOOL_FAILED (killed)
 */
export async function runToEnd(tool: string, args: readonly string[], signal: AbortSignal | undefined): Promise<ToolRun | undefined> {
  const child = spawn(tool, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment() });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text.slice(0, MAX_CHECKER_OUTPUT - output.length);
    });
  }
  let killer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    child.kill('SIGTERM');
    killer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
  };
  signal?.addEventListener('abort', stop);
  try {
    await once(child, 'close');
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    throw new TimebandError(`${tool} could not be started: ${String(cause)}`, { code: 'TOOL_FAILED', cause });
  } finally {
    signal?.removeEventListener('abort', stop);
    clearTimeout(killer);
  }
  if (signal?.aborted === true) throw new TimebandError('interrupted.', { code: 'INTERRUPTED' });
  if (child.exitCode === null) throw new TimebandError(`${tool} was ended by ${child.signalCode}: ${output.trim()}`, { code: 'TOOL_FAILED' });
  return { status: child.exitCode, output: output.trimEnd() };
}
