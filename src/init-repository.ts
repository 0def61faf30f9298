/** Making a repository. */
import { randomBytes } from 'node:crypto';
import { link, mkdir, readdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { nodePrimitives } from '../bands/crypto/node-primitives.ts';
import { errnoOf, ioError, messageOf, TimebandError } from '../bands/errors.ts';
import { utf8 } from '../bands/format/bytes.ts';
import { DEFAULT_SCRYPT, type ScryptParameters } from '../bands/format/key-slot.ts';
import { ID_BYTES, wipeKeys } from '../bands/format/keys.ts';
import { type CipherName, KEY_BYTES } from '../bands/format/primitives.ts';
import { type RepositoryConfig, repositoryConfigCodec } from '../bands/format/repository-config.ts';
import {
  createDirectory,
  DIRECTORY_MODE,
  replaceFile,
  statIfPresent,
  syncDirectory,
  TEMPORARY_PREFIX,
  tryToRemove,
  writeNewFile,
} from '../bands/store/files.ts';
import { wipeGrant } from './keys/key-ring.ts';
import { SlotSecret } from './keys/slot-secret.ts';
import { makeSlot, writeSlot } from './keys/slots.ts';
import { type RepositoryLayout, repositoryLayout } from './layout.ts';
import { readRecoveryScript } from './recovery-script.ts';
import type { Repository } from './repository.ts';
import { REPOSITORY_README } from './repository-readme.ts';

export interface InitOptions {
  readonly passphrase: string;
  /** 24 words that open the repository, too. */
  readonly recoveryPhrase?: string | undefined;
  readonly cipher?: CipherName | undefined;
  /** How much work a guess at the passphrase costs. */
  readonly scrypt?: ScryptParameters;
  /** Take over the master key and the cipher of this one, so that sessions can be copied between the two as they are. */
  readonly sameKeysAs?: Repository | undefined;
}

/**
 * Makes a repository in `root`: a new folder, or an empty one.
 * @throws TimebandError REPOSITORY_EXISTS, TARGET_INVALID (not empty), UNSUPPORTED (no hardlinks there)
 */
export async function initRepository(root: string, options: InitOptions): Promise<RepositoryConfig> {
  const layout = repositoryLayout(path.resolve(root));
  const recoveryScript = await readRecoveryScript();
  const isNewRoot = await prepareRoot(layout);
  const made: string[] = [];
  try {
    for (const directory of [layout.keys, layout.volumes, layout.trash, layout.locks]) {
      await createDirectory(directory);
      made.push(directory);
    }
    await tryHardlink(layout.locks);
    const cipher = options.sameKeysAs?.config.cipher ?? options.cipher ?? 'aes-256-gcm';
    const config: RepositoryConfig = { id: randomBytes(ID_BYTES), cipher, createdMs: Date.now() };
    const bytes = repositoryConfigCodec.encode(config);
    await writeFirstSlots(layout.keys, nodePrimitives.sha256(bytes), options);
    made.push(layout.readme);
    await writeNewFile(layout.readme, utf8(REPOSITORY_README));
    made.push(layout.recoveryScript);
    await writeNewFile(layout.recoveryScript, recoveryScript);
    made.push(layout.config);
    await replaceFile(layout.config, bytes); // the last file makes it a repository
    if (isNewRoot) await syncDirectory(path.dirname(layout.root));
    return config;
  } catch (error) {
    for (const one of made) await tryToRemove(one);
    if (isNewRoot) await rmdir(layout.root).catch(() => undefined); // somebody else may have put something there
    throw error;
  }
}

/** The slots that open a new repository. */
async function writeFirstSlots(keysDirectory: string, configDigest: Uint8Array, options: InitOptions): Promise<void> {
  const masterKey = masterKeyFor(options.sameKeysAs);
  const { passphrase, recoveryPhrase, scrypt = DEFAULT_SCRYPT } = options;
  try {
    for (const offered of [{ passphrase }, ...(recoveryPhrase === undefined ? [] : [{ recoveryPhrase }])]) {
      using secret = SlotSecret.of(offered);
      await writeSlot(keysDirectory, await makeSlot(secret, { masterKey, configDigest, scrypt }));
    }
  } finally {
    wipeKeys(masterKey);
  }
}

/** @throws TimebandError WRONG_KEY if the other repository was opened with the key of one volume */
function masterKeyFor(other: Repository | undefined): Uint8Array {
  const grant = other?.exportKey();
  if (grant === undefined) return randomBytes(KEY_BYTES);
  if ('masterKey' in grant) return grant.masterKey;
  wipeGrant(grant);
  throw new TimebandError('the keys of a repository cannot be taken over with the key of one volume. Use its passphrase.', { code: 'WRONG_KEY' });
}

/** Makes the folder, or sees that it is empty. @returns whether it was made */
async function prepareRoot(layout: RepositoryLayout): Promise<boolean> {
  try {
    await mkdir(layout.root, { mode: DIRECTORY_MODE });
    return true;
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw ioError(error, 'make the folder', layout.root);
  }
  if ((await statIfPresent(layout.config)) !== undefined) {
    throw new TimebandError(`${layout.root} is a Timeband repository already; nothing was changed.`, {
      code: 'REPOSITORY_EXISTS',
      path: layout.root,
    });
  }
  let names: string[];
  try {
    names = await readdir(layout.root);
  } catch (error) {
    throw ioError(error, 'look into', layout.root);
  }
  if (names.some((name) => name !== 'lost+found')) {
    throw new TimebandError(`${layout.root} is not empty and not a repository; nothing was changed. Name a new or an empty folder.`, {
      code: 'TARGET_INVALID',
      path: layout.root,
    });
  }
  return false;
}

/** What link(2) says where there are none. */
const NO_LINKS: readonly string[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

/** Sessions are hardlinks: a file system without them (FAT, some network mounts) is refused at once. */
async function tryHardlink(directory: string): Promise<void> {
  const one = path.join(directory, `${TEMPORARY_PREFIX}link-1`);
  const two = path.join(directory, `${TEMPORARY_PREFIX}link-2`);
  try {
    await writeNewFile(one, new Uint8Array(1));
    await link(one, two);
  } catch (cause) {
    if (!NO_LINKS.includes(errnoOf(cause) ?? '')) throw ioError(cause, 'try a hardlink in', directory);
    throw new TimebandError(
      `the file system of ${directory} has no hardlinks (${messageOf(cause)}); put the repository on ext4, XFS, btrfs or ZFS.`,
      {
        code: 'UNSUPPORTED',
        cause,
        path: directory,
      },
    );
  } finally {
    await tryToRemove(one);
    await tryToRemove(two);
  }
}
