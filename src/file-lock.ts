/**
 * flock(2), which Node lacks. The program flock of util-linux locks a descriptor that it inherits; such a lock belongs to the
 * open file, which stays open here after that program has ended, and goes when it is closed or this process dies.
 */
import { spawn } from 'node:child_process';
import { type FileHandle, readFile } from 'node:fs/promises';
import { TimebandError } from '../bands/errors.ts';
import { deviceNumbers } from './sources/block-device.ts';

/** What flock(1) is told to exit with where the lock is held by somebody. */
const STATUS_HELD = 75;
const INHERITED_FD = 3;

/**
 * Locks an open file without waiting. `file` is its name for messages.
 * @returns `locked`, `held` by somebody, or why the file system cannot lock
 * @throws TimebandError TOOL_MISSING
 */
export function lockDescriptor(fd: number, mode: 'shared' | 'exclusive', file: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const args = [`--${mode}`, '--nonblock', '--conflict-exit-code', String(STATUS_HELD), String(INHERITED_FD)];
    const child = spawn('flock', args, { stdio: ['ignore', 'ignore', 'pipe', fd], env: { ...process.env, LC_ALL: 'C' } });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (cause) => {
      const message = `whether ${file} is locked cannot be told: the program "flock" is not installed (Debian: apt-get install util-linux)`;
      reject(new TimebandError(message, { code: 'TOOL_MISSING', cause }));
    });
    child.once('close', (status) =>
      resolve(status === 0 ? 'locked' : status === STATUS_HELD ? 'held' : stderr.trim() || `flock ended with status ${status}`),
    );
  });
}

/**
 * Locks an open file for this process alone, unless anybody holds a lock of any kind on it, as a running VM does.
 * @returns as `lockDescriptor`
 */
export async function lockAgainstAll(handle: FileHandle, file: string): Promise<string> {
  const facts = await handle.stat({ bigint: true });
  const locks = await readFile('/proc/locks', 'utf8').catch(() => ''); // not Linux: then our own lock has to do
  return hasLocks(locks, facts) ? 'held' : await lockDescriptor(handle.fd, 'exclusive', file);
}

/** Whether anybody holds a lock of any kind on a file, from the text of /proc/locks. Where it names devices otherwise than stat (btrfs), none is found. */
export function hasLocks(locks: string, { dev, ino }: { readonly dev: bigint; readonly ino: bigint }): boolean {
  const [major, minor] = deviceNumbers(dev)
    .split(':')
    .map((part) => Number(part).toString(16).padStart(2, '0'));
  return locks.split('\n').some((line) => line.split(/\s+/).includes(`${major}:${minor}:${ino}`));
}
