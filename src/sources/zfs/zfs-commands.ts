/** Running zfs and zstream. The only code that knows how they are called, so tests give it other programs by PATH. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { errnoOf, TimebandError } from '../../../bands/errors.ts';

const run = promisify(execFile);
const MAX_OUTPUT_BYTES = 67_108_864;
const MAX_STDERR_CHARACTERS = 4096;

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C' };
}

function missing(tool: string, cause: unknown): TimebandError {
  return new TimebandError(`the program "${tool}" is not installed (Debian: apt-get install zfsutils-linux)`, { code: 'TOOL_MISSING', cause });
}

/** Runs `zfs` and gives its output. @throws TimebandError TOOL_MISSING, SOURCE_NOT_FOUND, PERMISSION_DENIED, TOOL_FAILED */
export async function zfs(...args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run('zfs', args, { maxBuffer: MAX_OUTPUT_BYTES, env: environment() });
    return stdout;
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') throw missing('zfs', cause);
    const stderr = typeof cause === 'object' && cause !== null && 'stderr' in cause ? String(cause.stderr).trim() : '';
    const code = /does not exist|no such pool/.test(stderr)
      ? 'SOURCE_NOT_FOUND'
      : /permission denied/i.test(stderr)
        ? 'PERMISSION_DENIED'
        : 'TOOL_FAILED';
    throw new TimebandError(`zfs ${args[0]} failed: ${stderr === '' ? String(cause) : stderr}`, { code, cause });
  }
}

/** One property of a dataset as `zfs get` gives it. */
export interface Property {
  readonly name: string;
  readonly property: string;
  readonly value: string;
  /** `local`, `default`, `inherited from …`, `-` … */
  readonly source: string;
}

/** `zfs get` with exact numbers. @param where options and the dataset */
export async function getProperties(properties: readonly string[], ...where: readonly string[]): Promise<Property[]> {
  const text = await zfs('get', '-H', '-p', '-o', 'name,property,value,source', ...where.slice(0, -1), properties.join(','), where.at(-1) ?? '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name = '', property = '', value = '', source = ''] = line.split('\t');
      return { name, property, value, source };
    });
}

/**
 * Gives the lines of `zfs send -i FROM TO | zstream dump -v` to `take`.
 * @throws TimebandError TOOL_MISSING, TOOL_FAILED if either fails; what was taken is then worth nothing
 */
export async function dumpStream(from: string, to: string, take: (line: string) => void): Promise<void> {
  const dump = await start('zstream', ['dump', '-v']).catch((error: unknown) => {
    if (!(error instanceof TimebandError) || error.code !== 'TOOL_MISSING') throw error;
    return start('zstreamdump', ['-v']); // its name up to OpenZFS 0.8
  });
  const send = await start('zfs', ['send', '-i', from, to]).catch((error: unknown) => {
    dump.child.kill();
    throw error;
  });
  const { child } = dump;
  send.child.stdin?.end();
  if (send.child.stdout === null || child.stdin === null || child.stdout === null) throw new RangeError('stdio: not piped');
  const lines = createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY }).on('line', take);
  const flow = pipeline(send.child.stdout, child.stdin).catch(() => undefined); // why it broke is told by how the programs ended
  await Promise.all([flow, once(lines, 'close'), send.ended, dump.ended]);
}

interface Started {
  readonly child: ChildProcess;
  /** Fails unless the program ends with 0. */
  readonly ended: Promise<void>;
}

async function start(tool: string, args: readonly string[]): Promise<Started> {
  const child = spawn(tool, args, { stdio: ['pipe', 'pipe', 'pipe'], env: environment() });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR_CHARACTERS);
  });
  const ended = once(child, 'close').then(([status]) => {
    if (status !== 0) throw new TimebandError(`${tool} ${args[0]} failed: ${stderr.trim() || `status ${status}`}`, { code: 'TOOL_FAILED' });
  });
  ended.catch(() => undefined); // it is waited for later
  try {
    await once(child, 'spawn');
  } catch (cause) {
    throw errnoOf(cause) === 'ENOENT'
      ? missing(tool, cause)
      : new TimebandError(`${tool} cannot be run: ${String(cause)}`, { code: 'TOOL_FAILED', cause });
  }
  return { child, ended };
}
