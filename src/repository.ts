/** The repository: making one, opening it, and finding its volumes. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { link, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { nodePrimitives } from '../bands/crypto/node-primitives.ts';
import { errnoOf, ioError, messageOf, TimebandError, withPath } from '../bands/errors.ts';
import { equalBytes, fromHex, toHex, utf8 } from '../bands/format/bytes.ts';
import { DEFAULT_BAND_BYTES, isBandBytes } from '../bands/format/geometry.ts';
import { DEFAULT_SCRYPT, type ScryptParameters } from '../bands/format/key-slot.ts';
import { deriveVolumeKey, deriveVolumeKeys, ID_BYTES, wipeKeys } from '../bands/format/keys.ts';
import { type CipherName, KEY_BYTES } from '../bands/format/primitives.ts';
import { openRecord, RECORD_NONCE_BYTES, sealRecord } from '../bands/format/record.ts';
import { type RepositoryConfig, repositoryConfigCodec } from '../bands/format/repository-config.ts';
import { checkVolumeName, type VolumeRecord, volumeRecordCodec } from '../bands/format/volume-record.ts';
import {
  createDirectory,
  DIRECTORY_MODE,
  listDirectory,
  listRequiredDirectory,
  readRegularFile,
  replaceFile,
  requireRealDirectory,
  statIfPresent,
  syncDirectory,
  TEMPORARY_PREFIX,
  writeNewFile,
} from '../bands/store/files.ts';
import type { PageCache, VolumeContext } from '../bands/store/session-directory.ts';
import { addPassphraseSlot, openMasterKey } from './key-slots.ts';
import { type RepositoryLayout, repositoryLayout, volumeLayout } from './layout.ts';
import { Lock, type LockRequest } from './locks.ts';
import { readRecoveryScript } from './recovery-script.ts';
import { REPOSITORY_README } from './repository-readme.ts';
import { Volume } from './volume.ts';

const MAX_SMALL_FILE_BYTES = 65_536;
/** Making a volume takes milliseconds: worth some seconds of waiting. */
const VOLUMES_LOCK_ATTEMPTS = 200;

export interface InitOptions {
  readonly passphrase: string;
  readonly cipher?: CipherName | undefined;
  /** How much work a guess at the passphrase costs. */
  readonly scrypt?: ScryptParameters;
  /** Take over the master key and the cipher of this one, so that sessions can be copied between the two as they are. */
  readonly sameKeysAs?: Repository | undefined;
}

/** What opens a repository: a passphrase, or the master key itself (kept by the caller). */
export type Unlock = { readonly passphrase: string } | { readonly masterKey: Uint8Array };

export interface OpenOptions {
  /** Gives each volume a cache of its index pages. */
  readonly pageCacheFor?: (volumeId: string) => PageCache | undefined;
  /** How long to wait for the lock of a volume that somebody else holds; ended by the signal. */
  readonly lockWaitMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A volume whose record is missing or damaged; it never hides the others. */
export interface DamagedVolume {
  readonly id: string;
  readonly error: TimebandError;
}

export class Repository {
  readonly layout: RepositoryLayout;
  readonly config: RepositoryConfig;
  readonly #masterKey: Uint8Array;
  readonly #options: OpenOptions;

  private constructor(layout: RepositoryLayout, config: RepositoryConfig, secret: { masterKey: Uint8Array; options: OpenOptions }) {
    this.layout = layout;
    this.config = config;
    this.#masterKey = secret.masterKey;
    this.#options = secret.options;
  }

  /**
   * Makes a repository in `root`: a new folder, or an empty one.
   * @throws TimebandError REPOSITORY_EXISTS, TARGET_INVALID (not empty), UNSUPPORTED (no hardlinks there)
   */
  static async init(root: string, options: InitOptions): Promise<RepositoryConfig> {
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
      const config: RepositoryConfig = {
        id: randomBytes(ID_BYTES),
        cipher: options.sameKeysAs?.config.cipher ?? options.cipher ?? 'aes-256-gcm',
        createdMs: Date.now(),
      };
      const bytes = repositoryConfigCodec.encode(config);
      const masterKey = options.sameKeysAs?.exportMasterKey() ?? randomBytes(KEY_BYTES);
      await addPassphraseSlot(layout.keys, options.passphrase, {
        masterKey,
        configDigest: nodePrimitives.sha256(bytes),
        scrypt: options.scrypt ?? DEFAULT_SCRYPT,
      });
      wipeKeys(masterKey);
      made.push(layout.readme);
      await writeNewFile(layout.readme, utf8(REPOSITORY_README));
      made.push(layout.recoveryScript);
      await writeNewFile(layout.recoveryScript, recoveryScript);
      made.push(layout.config);
      await replaceFile(layout.config, bytes); // the last file makes it a repository
      if (isNewRoot) await syncDirectory(path.dirname(layout.root));
      return config;
    } catch (error) {
      for (const one of made) await rm(one, { recursive: true, force: true });
      throw error;
    }
  }

  /** @throws TimebandError REPOSITORY_NOT_FOUND, REPOSITORY_VERSION, REPOSITORY_CORRUPT, WRONG_KEY */
  static async open(root: string, unlock: Unlock, options: OpenOptions = {}): Promise<Repository> {
    const layout = repositoryLayout(path.resolve(root));
    const { config, digest } = await readConfig(layout);
    const masterKey = 'masterKey' in unlock ? Uint8Array.from(unlock.masterKey) : await openMasterKey(layout.keys, unlock.passphrase, digest);
    return new Repository(layout, config, { masterKey, options });
  }

  get id(): string {
    return toHex(this.config.id);
  }

  /** A copy of the master key, for a process of ours that goes on with this repository. */
  exportMasterKey(): Uint8Array {
    return this.#masterKey.slice();
  }

  /** Whether what one of the two has sealed, the other opens: bands, pages and records of a volume are the same bytes in both. */
  hasSameKeysAs(other: Repository): boolean {
    return this.config.cipher === other.config.cipher && equalBytes(this.#masterKey, other.#masterKey);
  }

  /** The volumes by name, and those whose record is damaged. @throws TimebandError RECORD_MISSING (the folder of the volumes), IO_ERROR */
  async listVolumes(): Promise<{ readonly volumes: Volume[]; readonly damaged: DamagedVolume[] }> {
    const volumes: Volume[] = [];
    const damaged: DamagedVolume[] = [];
    for (const id of await this.#volumeIds()) {
      try {
        volumes.push(await this.#openVolume(id));
      } catch (error) {
        if (!isDamage(error)) throw error; // a system that is out of files, say, makes no volume vanish
        damaged.push({ id, error });
      }
    }
    return { volumes: volumes.sort((a, b) => (a.name < b.name ? -1 : 1)), damaged };
  }

  /** The same, where a volume whose sessions cannot be listed is damaged, too: for what goes over all volumes. @throws TimebandError as listVolumes */
  async listReadableVolumes(): Promise<{ readonly volumes: Volume[]; readonly damaged: DamagedVolume[] }> {
    const { volumes, damaged } = await this.listVolumes();
    const readable: Volume[] = [];
    for (const volume of volumes) {
      try {
        await volume.sessionIds();
        readable.push(volume);
      } catch (error) {
        if (!isDamage(error)) throw error;
        damaged.push({ id: volume.id, error });
      }
    }
    return { volumes: readable, damaged };
  }

  async findVolume(name: string): Promise<Volume | undefined> {
    return (await this.listVolumes()).volumes.find((volume) => volume.name === name);
  }

  /** @throws TimebandError VOLUME_NOT_FOUND, RECORD_CORRUPT (a volume that cannot be read may be the one) */
  async volume(name: string): Promise<Volume> {
    const { volumes, damaged } = await this.listVolumes();
    const found = volumes.find((volume) => volume.name === name);
    if (found !== undefined) return found;
    const known = volumes.length === 0 ? 'It has none yet' : `It has: ${volumes.map((volume) => volume.name).join(', ')}`;
    const tail = damaged.length === 0 ? '' : ` (${damaged.length} more cannot be read: run "timeband check")`;
    throw new TimebandError(`no volume "${name}" in ${this.layout.root}. ${known}${tail}.`, {
      code: damaged.length === 0 ? 'VOLUME_NOT_FOUND' : 'RECORD_CORRUPT',
    });
  }

  /**
   * Makes a volume, whole or not at all.
   * @param options.copyOf another repository's volume: the new one gets its id, and what its record says
   * @throws TimebandError USAGE, VOLUME_EXISTS, LOCKED
   */
  async createVolume(
    name: string,
    options: { readonly bandBytes?: number; readonly note?: string; readonly copyOf?: Volume | undefined } = {},
  ): Promise<Volume> {
    checkVolumeName(name);
    const { copyOf } = options;
    const bandBytes = copyOf?.record.bandBytes ?? options.bandBytes ?? DEFAULT_BAND_BYTES;
    if (!isBandBytes(bandBytes))
      throw new TimebandError(`a band size of ${bandBytes} bytes is not possible: use a power of two from 256K to 64M.`, { code: 'USAGE' });
    await using _lock = await this.#lockList(`create volume ${name}`);
    const { volumes, damaged } = await this.listVolumes();
    if (volumes.some((volume) => volume.name === name)) throw new TimebandError(`volume "${name}" exists already.`, { code: 'VOLUME_EXISTS' });
    if (damaged[0] !== undefined) {
      throw new TimebandError(
        `volume "${name}" was not made: ${damaged[0].error.message}, and that volume may be the one you mean. Run "timeband check".`,
        {
          code: 'RECORD_CORRUPT',
          cause: damaged[0].error,
        },
      );
    }
    const volumeId = copyOf?.context.volumeId ?? randomBytes(ID_BYTES);
    const record: VolumeRecord =
      copyOf === undefined ? { name, bandBytes, createdMs: Date.now(), note: options.note ?? '' } : { ...copyOf.record, name };
    const context = this.#contextOf(volumeId, bandBytes);
    const sealed = sealVolumeRecord(context, record);
    const temporary = path.join(this.layout.volumes, `${TEMPORARY_PREFIX}${randomBytes(8).toString('hex')}`);
    const final = path.join(this.layout.volumes, toHex(volumeId));
    await createDirectory(temporary);
    for (const part of ['sessions', 'incoming']) await createDirectory(path.join(temporary, part));
    await writeNewFile(path.join(temporary, 'volume'), sealed);
    await syncDirectory(temporary);
    await rename(temporary, final);
    await syncDirectory(this.layout.volumes);
    return new Volume(final, record, { context, pageCache: this.#options.pageCacheFor?.(toHex(volumeId)) });
  }

  /** Takes a lock of this repository, and waits for it as long as the user said. @throws TimebandError LOCKED, INTERRUPTED */
  async lock(request: Omit<LockRequest, 'waitMs' | 'signal'>): Promise<Lock> {
    const { lockWaitMs: waitMs, signal } = this.#options;
    return await Lock.acquire(this.layout.locks, { ...request, waitMs, signal });
  }

  /** Takes the lock that whoever changes a volume holds. @throws TimebandError LOCKED, INTERRUPTED */
  async lockVolume(volume: Volume, command: string): Promise<Lock> {
    return await this.lock({ scope: volume.id, what: `volume "${volume.name}"`, command });
  }

  /** Replaces a volume's record by what `change` makes of it: its name, its note. @throws TimebandError VOLUME_EXISTS, USAGE, LOCKED */
  async changeVolume(volume: Volume, change: (record: VolumeRecord) => VolumeRecord): Promise<VolumeRecord> {
    await using _lock = await this.#lockList(`change volume ${volume.name}`);
    const record = change(volume.record);
    checkVolumeName(record.name);
    if (record.name !== volume.name && (await this.listVolumes()).volumes.some(({ name }) => name === record.name))
      throw new TimebandError(`volume "${record.name}" exists already; nothing was changed.`, { code: 'VOLUME_EXISTS' });
    await replaceFile(volume.layout.record, sealVolumeRecord(volume.context, record));
    return record;
  }

  /** What a volume's sealed record says. @param id its folder's name @throws TimebandError RECORD_CORRUPT */
  openVolumeRecord(id: string, sealed: Uint8Array): VolumeRecord {
    const { volumeId, keys } = this.volumeContext(id);
    return volumeRecordCodec.decode(openRecord(keys.recordsKey, { kind: 'volume', volumeId }, sealed));
  }

  /** Puts a record into the place of one that cannot be read. @throws TimebandError VOLUME_EXISTS, USAGE, LOCKED */
  async replaceVolumeRecord(id: string, record: VolumeRecord): Promise<void> {
    checkVolumeName(record.name);
    await using _lock = await this.#lockList(`repair volume ${id}`);
    if ((await this.listVolumes()).volumes.some(({ name }) => name === record.name))
      throw new TimebandError(`volume "${record.name}" exists already; the record of ${id} was left as it is.`, { code: 'VOLUME_EXISTS' });
    await replaceFile(this.#recordPath(id), sealVolumeRecord(this.volumeContext(id, record.bandBytes), record));
  }

  #recordPath(id: string): string {
    return volumeLayout(path.join(this.layout.volumes, id)).record;
  }

  async #lockList(command: string): Promise<Lock> {
    return await this.lock({ ...LIST_LOCK, command, attempts: VOLUMES_LOCK_ATTEMPTS });
  }

  /** Removes a volume that has no session and nothing that a sync could go on with: what a first sync that failed leaves. */
  async removeEmptyVolume(volume: Volume): Promise<void> {
    if ((await volume.sessionIds()).length > 0 || (await listDirectory(volume.layout.incoming)).length > 0) return;
    await rm(volume.layout.root, { recursive: true, force: true });
    await syncDirectory(this.layout.volumes);
  }

  async #volumeIds(): Promise<string[]> {
    return (await listRequiredDirectory(this.layout.volumes)).filter((name) => fromHex(name, ID_BYTES) !== undefined).sort();
  }

  async #openVolume(id: string): Promise<Volume> {
    const root = path.join(this.layout.volumes, id);
    const file = this.#recordPath(id);
    try {
      await requireRealDirectory(root);
      const record = this.openVolumeRecord(id, await readRegularFile(file, { maxBytes: MAX_SMALL_FILE_BYTES, what: 'volume record' }));
      return new Volume(root, record, { context: this.volumeContext(id, record.bandBytes), pageCache: this.#options.pageCacheFor?.(id) });
    } catch (error) {
      throw withPath(error, file);
    }
  }

  /** The keys of the volume whose folder has this name. */
  volumeContext(id: string, bandBytes: number = DEFAULT_BAND_BYTES): VolumeContext {
    return this.#contextOf(fromHex(id, ID_BYTES) ?? new Uint8Array(ID_BYTES), bandBytes);
  }

  /** Keys of a volume that is not there: for measuring what a first sync would store. */
  temporaryContext(bandBytes: number = DEFAULT_BAND_BYTES): VolumeContext {
    return this.#contextOf(randomBytes(ID_BYTES), bandBytes);
  }

  #contextOf(volumeId: Uint8Array, bandBytes: number): VolumeContext {
    const volumeKey = deriveVolumeKey(this.#masterKey, volumeId);
    const keys = deriveVolumeKeys(volumeKey, volumeId);
    wipeKeys(volumeKey);
    return { volumeId, cipher: this.config.cipher, bandBytes, keys };
  }

  /** Overwrites the master key. */
  close(): void {
    wipeKeys(this.#masterKey);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What a disk says of a file that it cannot give back, while others are well: an I/O error, a damaged inode, a checksum that differs. */
const LOST_FILE: ReadonlySet<string | undefined> = new Set(['EIO', 'EUCLEAN', 'EBADMSG']);

function isDamage(error: unknown): error is TimebandError {
  return error instanceof TimebandError && (/^(RECORD|REPOSITORY)_/.test(error.code) || LOST_FILE.has(errnoOf(error.cause)));
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

/** Sessions are hardlinks: a file system without them (FAT, some network mounts) is refused at once. */
async function tryHardlink(directory: string): Promise<void> {
  const one = path.join(directory, `${TEMPORARY_PREFIX}link-1`);
  const two = path.join(directory, `${TEMPORARY_PREFIX}link-2`);
  try {
    await writeNewFile(one, new Uint8Array(1));
    await link(one, two);
  } catch (cause) {
    throw new TimebandError(
      `the file system of ${directory} has no hardlinks (${messageOf(cause)}); put the repository on ext4, XFS, btrfs or ZFS.`,
      {
        code: 'UNSUPPORTED',
        cause,
        path: directory,
      },
    );
  } finally {
    await rm(one, { force: true });
    await rm(two, { force: true });
  }
}

/** Reads repository.json without any key. @throws TimebandError REPOSITORY_NOT_FOUND, REPOSITORY_VERSION, REPOSITORY_CORRUPT */
export async function readConfig(layout: RepositoryLayout): Promise<{ readonly config: RepositoryConfig; readonly digest: Uint8Array }> {
  let bytes: Uint8Array;
  try {
    await (await open(layout.root, constants.O_RDONLY | constants.O_DIRECTORY)).close();
    bytes = await readRegularFile(layout.config, { maxBytes: MAX_SMALL_FILE_BYTES, what: 'repository.json' });
  } catch (cause) {
    if (errnoOf(cause) !== 'ENOENT' && errnoOf(cause) !== 'ENOTDIR' && !(cause instanceof TimebandError && cause.code === 'RECORD_MISSING'))
      throw ioError(cause, 'open the repository', layout.root);
    throw new TimebandError(
      `no Timeband repository at ${layout.root}. Make one with "timeband init", or name another with --repo or TIMEBAND_REPO.`,
      {
        code: 'REPOSITORY_NOT_FOUND',
        cause,
        path: layout.root,
      },
    );
  }
  try {
    return { config: repositoryConfigCodec.decode(bytes), digest: nodePrimitives.sha256(bytes) };
  } catch (cause) {
    throw configError(bytes, layout.config, cause);
  }
}

function configError(bytes: Uint8Array, file: string, cause: unknown): TimebandError {
  const version = /"format": "timeband-repository",\s+"version": (\d+)/.exec(new TextDecoder().decode(bytes))?.[1];
  if (version !== undefined && Number(version) > 1) {
    return new TimebandError(`${file}: the repository has format version ${version}; this program knows version 1. Use a newer Timeband.`, {
      code: 'REPOSITORY_VERSION',
      cause,
      path: file,
    });
  }
  return new TimebandError(`${file} is damaged: ${messageOf(cause)}. Put it back from a copy; it never changes after init.`, {
    code: 'REPOSITORY_CORRUPT',
    cause,
    path: file,
  });
}

/** Held by whoever adds a volume, or changes one's name. */
export const LIST_LOCK = { scope: 'volumes', what: 'the list of volumes' } as const;

function sealVolumeRecord({ keys, volumeId }: VolumeContext, record: VolumeRecord): Uint8Array {
  const nonce = randomBytes(RECORD_NONCE_BYTES);
  return sealRecord(keys.recordsKey, { kind: 'volume', volumeId }, { nonce, plain: volumeRecordCodec.encode(record) });
}
