/**
 * The lock on a sparse bundle's `token`: whoever attaches the bundle for writing holds it exclusively (flock). A sync
 * holds it shared while it reads, so that nobody attaches the bundle meanwhile.
 *
 * Node has no flock(2). The program flock of util-linux locks a descriptor that it inherits; such a lock belongs to the
 * open file, which stays open here after that program has ended, and goes when it is closed or this process dies.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { errnoOf, ioError, TimebandError } from '../../../bands/errors.ts';

/** What flock(1) is told to exit with where the lock is held by somebody. */
const STATUS_HELD = 75;
const INHERITED_FD = 3;
/** An encrypted bundle's token begins with this (a header of version 2). */
const KEY_MAGIC = 'encrcdsa';

export class TokenLock {
  readonly #handle: FileHandle | undefined;
  /** For the user: why the lock is not held. */
  readonly warnings: readonly string[];

  private constructor(handle: FileHandle | undefined, warnings: readonly string[]) {
    this.#handle = handle;
    this.warnings = warnings;
  }

  /**
   * Takes the lock, shared, without waiting.
   * @throws TimebandError LOCKED if the bundle is attached, SOURCE_INVALID if it is encrypted, TOOL_MISSING
   */
  static async take(token: string): Promise<TokenLock> {
    const handle = await openToken(token);
    if (handle === undefined)
      return new TokenLock(undefined, [`${token} is missing, so whether the bundle is attached cannot be told. Attach it nowhere while it is read.`]);
    try {
      await refuseEncrypted(handle, token);
      const outcome = await lockShared(handle.fd, token);
      if (outcome === 'held') throw await attached(handle, token);
      const warnings =
        outcome === 'locked'
          ? []
          : [`${token} cannot be locked (${outcome}), so whether the bundle is attached cannot be told. Attach it nowhere while it is read.`];
      return new TokenLock(handle, warnings);
    } catch (error) {
      await handle.close();
      throw ioError(error, 'lock', token);
    }
  }

  async release(): Promise<void> {
    await this.#handle?.close();
  }
}

async function openToken(token: string): Promise<FileHandle | undefined> {
  try {
    return await open(token, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw ioError(error, 'open', token);
  }
}

async function refuseEncrypted(handle: FileHandle, token: string): Promise<void> {
  const stat = await handle.stat();
  if (stat.isFile() && stat.size === 0) return;
  const head = Buffer.alloc(KEY_MAGIC.length);
  if (stat.isFile()) await handle.read(head, 0, head.length, 0);
  const what =
    head.toString('latin1') === KEY_MAGIC ? 'holds the keys of an encrypted sparse bundle' : 'is not empty, as that of a plain sparse bundle is';
  throw new TimebandError(
    `${token} ${what}, whose bands cannot be read without Apple's software. Attach it on a Mac without mounting (hdiutil attach -nomount) and sync that device, or convert it: hdiutil convert -format UDSB -o plain.sparsebundle (Timeband encrypts by itself).`,
    { code: 'SOURCE_INVALID', path: token },
  );
}

/** @returns `locked`, `held` by somebody, or why the file system cannot lock */
function lockShared(fd: number, token: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const args = ['--shared', '--nonblock', '--conflict-exit-code', String(STATUS_HELD), String(INHERITED_FD)];
    const child = spawn('flock', args, { stdio: ['ignore', 'ignore', 'pipe', fd], env: { ...process.env, LC_ALL: 'C' } });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (cause) => {
      const message = `whether ${token} is locked cannot be told: the program "flock" is not installed (Debian: apt-get install util-linux)`;
      reject(new TimebandError(message, { code: 'TOOL_MISSING', cause }));
    });
    child.once('close', (status) =>
      resolve(status === 0 ? 'locked' : status === STATUS_HELD ? 'held' : stderr.trim() || `flock ended with status ${status}`),
    );
  });
}

async function attached(handle: FileHandle, token: string): Promise<TimebandError> {
  const { ino } = await handle.stat();
  const pid = lockHolder(await readFile('/proc/locks', 'utf8').catch(() => ''), ino); // not Linux: it stays unnamed
  return new TimebandError(
    `the bundle is attached${pid === undefined ? '' : ` by process ${pid}`} (${token} is locked): what is read would be torn. Detach it, or sync the attached device, and run sync again.`,
    { code: 'LOCKED', path: token },
  );
}

/** The process that holds an flock on the file of inode `ino`, from the text of /proc/locks. */
export function lockHolder(locks: string, ino: number): number | undefined {
  for (const line of locks.split('\n')) {
    const match = /^\d+: FLOCK\s+\w+\s+WRITE\s+(\d+)\s+[0-9a-f]+:[0-9a-f]+:(\d+)\s/.exec(line);
    if (match !== null && Number(match[2]) === ino) return Number(match[1]);
  }
  return undefined;
}
