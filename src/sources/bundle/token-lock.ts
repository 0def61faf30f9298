/**
 * The lock on a sparse bundle's `token`: whoever attaches the bundle for writing holds it exclusively (flock). A sync
 * holds it shared while it reads, so that nobody attaches the bundle meanwhile.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { errnoOf, ioError, TimebandError } from '../../../bands/errors.ts';
import { lockDescriptor } from '../../file-lock.ts';

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
      const outcome = await lockDescriptor(handle.fd, 'shared', token);
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
