/** The repository: opening it, and finding its volumes. */
import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError, TimebandError, withPath } from '../bands/errors.ts';
import { equalBytes, fromHex, toHex } from '../bands/format/bytes.ts';
import { DEFAULT_BAND_BYTES, isBandBytes } from '../bands/format/geometry.ts';
import { ID_BYTES, type KeyDomain, wipeKeys } from '../bands/format/keys.ts';
import { checkPaddingChoice, type Padding } from '../bands/format/padding.ts';
import { openRecord, RECORD_NONCE_BYTES, sealRecord } from '../bands/format/record.ts';
import type { RepositoryConfig } from '../bands/format/repository-config.ts';
import type { VolumeKey } from '../bands/format/volume-key.ts';
import { checkDomainName, checkVolumeName, type VolumeRecord, volumeRecordCodec } from '../bands/format/volume-record.ts';
import {
  createDirectory,
  listDirectory,
  listRequiredDirectory,
  readRegularFile,
  replaceFile,
  requireRealDirectory,
  statIfPresent,
  syncDirectory,
  TEMPORARY_PREFIX,
  tryToRemove,
  writeNewFile,
} from '../bands/store/files.ts';
import type { PageCache, VolumeContext } from '../bands/store/session-directory.ts';
import { moveToTrash, removeTree } from './deletion/trash.ts';
import { type InitOptions, initRepository } from './init-repository.ts';
import { type KeyGrant, KeyRing } from './keys/key-ring.ts';
import { openMasterKey } from './keys/open-slots.ts';
import { type OfferedSecret, SlotSecret } from './keys/slot-secret.ts';
import { type RepositoryLayout, repositoryLayout, volumeLayout } from './layout.ts';
import { Lock, type LockRequest } from './locks.ts';
import { type ReadConfig, readConfig } from './repository-config.ts';
import { Volume } from './volume.ts';

/** What is fixed when a volume is made, and decides how its bands are stored. */
export type BandSettings = Pick<VolumeRecord, 'bandBytes' | 'padding' | 'domain'>;
const DEFAULT_SETTINGS: BandSettings = { bandBytes: DEFAULT_BAND_BYTES, padding: undefined, domain: undefined };
const MAX_SMALL_FILE_BYTES = 65_536;
/** A volume that is being made, or whose maker was killed. */
const UNFINISHED_VOLUME = new RegExp(`^\\${TEMPORARY_PREFIX}[0-9a-f]+$`);
/** Making a volume takes milliseconds: worth some seconds of waiting. */
const VOLUMES_LOCK_ATTEMPTS = 200;

/** What opens a repository, or one volume of it: what people have, or the key itself (of which a copy is kept). */
export type Unlock = OfferedSecret | KeyGrant;

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
  /** SHA-256 of repository.json, to which keys are bound. */
  readonly configDigest: Uint8Array;
  /** The key slot that was opened, 16 hex digits; undefined if the key itself was given. */
  readonly openedSlotId: string | undefined;
  readonly #keys: KeyRing;
  readonly #options: OpenOptions;

  private constructor(layout: RepositoryLayout, read: ReadConfig, opened: { keys: KeyRing; slotId: string | undefined; options: OpenOptions }) {
    this.layout = layout;
    this.config = read.config;
    this.configDigest = read.digest;
    this.openedSlotId = opened.slotId;
    this.#keys = opened.keys;
    this.#options = opened.options;
  }

  /**
   * Makes a repository in `root`: a new folder, or an empty one.
   * @throws TimebandError REPOSITORY_EXISTS, TARGET_INVALID (not empty), UNSUPPORTED (no hardlinks there)
   */
  static async init(root: string, options: InitOptions): Promise<RepositoryConfig> {
    return await initRepository(root, options);
  }

  /** @throws TimebandError REPOSITORY_NOT_FOUND, REPOSITORY_VERSION, REPOSITORY_CORRUPT, WRONG_KEY */
  static async open(root: string, unlock: Unlock, options: OpenOptions = {}): Promise<Repository> {
    const layout = repositoryLayout(path.resolve(root));
    const read = await readConfig(layout);
    if ('masterKey' in unlock || 'volumeKey' in unlock) {
      if ('volumeKey' in unlock) requireOwnKey(layout, unlock.volumeKey, read.digest);
      return new Repository(layout, read, { keys: new KeyRing(unlock), slotId: undefined, options });
    }
    using secret = SlotSecret.of(unlock);
    const { masterKey, slotId } = await openMasterKey(layout.keys, secret, read.digest);
    const keys = new KeyRing({ masterKey });
    wipeKeys(masterKey);
    return new Repository(layout, read, { keys, slotId, options });
  }

  get id(): string {
    return toHex(this.config.id);
  }

  /** A copy of the key that this was opened with, for a process of ours that goes on with this repository; the caller wipes it. */
  exportKey(): KeyGrant {
    return this.#keys.copyGrant();
  }

  /** The key of one volume, for somebody who is to have that volume and nothing else; the caller wipes it. */
  exportVolumeKey({ context: { volumeId } }: Volume): VolumeKey {
    return { configDigest: this.configDigest, volumeId, key: this.#keys.copyVolumeKey(volumeId) };
  }

  /** @throws TimebandError WRONG_KEY if this was opened with the key of one volume */
  #requireMasterKey(what: string): void {
    if (this.#keys.onlyVolumeId === undefined) return;
    throw new TimebandError(`a volume key cannot ${what}: it opens its one volume and sees no others. Use the passphrase.`, { code: 'WRONG_KEY' });
  }

  /** Whether what one of the two has sealed, the other opens: bands, pages and records of a volume are the same bytes in both. */
  hasSameKeysAs(other: Repository): boolean {
    return this.config.cipher === other.config.cipher && this.#keys.equals(other.#keys);
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
    const only = this.#keys.onlyVolumeId;
    if (only !== undefined && damaged.length === 0) {
      const opens = volumes[0] === undefined ? 'which is not in this repository' : `"${volumes[0].name}"`;
      throw new TimebandError(`the volume key does not open a volume "${name}": it is that of volume ${only}, ${opens}.`, { code: 'WRONG_KEY' });
    }
    if (damaged.length === 0) {
      const known = volumes.length === 0 ? 'It has none yet' : `It has: ${volumes.map((volume) => volume.name).join(', ')}`;
      throw new TimebandError(`no volume "${name}" in ${this.layout.root}. ${known}.`, { code: 'VOLUME_NOT_FOUND' });
    }
    throw notFoundAmong(damaged, name, this.layout);
  }

  /**
   * Makes a volume, whole or not at all.
   * @param options.domain name of the key domain that it is put into, for good
   * @param options.copyOf another repository's volume: the new one gets its id, and what its record says
   * @throws TimebandError USAGE, VOLUME_EXISTS, LOCKED
   */
  async createVolume(
    name: string,
    options: {
      readonly bandBytes?: number | undefined;
      readonly padding?: Padding | undefined;
      readonly domain?: string | undefined;
      readonly note?: string;
      readonly copyOf?: Volume | undefined;
    } = {},
  ): Promise<Volume> {
    checkVolumeName(name);
    this.#requireMasterKey(`make a volume "${name}"`);
    const { copyOf } = options;
    const bandBytes = copyOf?.record.bandBytes ?? options.bandBytes ?? DEFAULT_BAND_BYTES;
    if (!isBandBytes(bandBytes))
      throw new TimebandError(`a band size of ${bandBytes} bytes is not possible: use a power of two from 256K to 64M.`, { code: 'USAGE' });
    const padding = copyOf === undefined ? options.padding : copyOf.record.padding;
    if (padding !== undefined) checkPaddingChoice(padding, bandBytes);
    await using _lock = await this.#lockList('create volume');
    const { volumes, damaged } = await this.listVolumes();
    if (volumes.some((volume) => volume.name === name)) throw new TimebandError(`volume "${name}" exists already.`, { code: 'VOLUME_EXISTS' });
    if (damaged[0] !== undefined) {
      throw new TimebandError(
        `volume "${name}" was not made: ${damaged[0].error.message}, and that volume may be the one you mean. Run "timeband check".`,
        { code: codeOf(damaged), cause: damaged[0].error },
      );
    }
    await this.#removeUnfinished();
    const volumeId = copyOf?.context.volumeId ?? randomBytes(ID_BYTES);
    const domain = copyOf === undefined ? this.findDomain(options.domain) : this.#ownDomain(copyOf.record.domain);
    const record: VolumeRecord =
      copyOf === undefined
        ? { name, bandBytes, createdMs: Date.now(), note: options.note ?? '', padding, domain }
        : { ...copyOf.record, name, domain };
    const context = this.#contextOf(volumeId, record);
    const sealed = sealVolumeRecord(context, record);
    const temporary = path.join(this.layout.volumes, `${TEMPORARY_PREFIX}${randomBytes(8).toString('hex')}`);
    const final = path.join(this.layout.volumes, toHex(volumeId));
    try {
      await createDirectory(temporary);
      for (const part of ['sessions', 'incoming']) await createDirectory(path.join(temporary, part));
      await writeNewFile(path.join(temporary, 'volume'), sealed);
      await syncDirectory(temporary);
      await rename(temporary, final);
    } catch (error) {
      await tryToRemove(temporary);
      throw ioError(error, 'make the volume', final);
    }
    await syncDirectory(this.layout.volumes);
    return new Volume(final, record, { context, pageCache: this.#options.pageCacheFor?.(toHex(volumeId)) });
  }

  /** Takes a lock of this repository, and waits for it as long as the user said. @throws TimebandError LOCKED, INTERRUPTED */
  async lock(request: Omit<LockRequest, 'waitMs' | 'signal'>): Promise<Lock> {
    const { lockWaitMs: waitMs, signal } = this.#options;
    return await Lock.acquire(this.layout.locks, { ...request, waitMs, signal });
  }

  /** Takes the lock that whoever changes a volume holds. @throws TimebandError LOCKED, INTERRUPTED, VOLUME_NOT_FOUND (it was removed before that) */
  async lockVolume(volume: Volume, command: string): Promise<Lock> {
    const lock = await this.lock({ scope: volume.id, what: `volume "${volume.name}"`, command });
    try {
      if ((await statIfPresent(volume.layout.root)) !== undefined) return lock;
    } catch (error) {
      await lock.release();
      throw error;
    }
    await lock.release();
    throw new TimebandError(`volume "${volume.name}" was removed just now, by whoever had it locked.`, { code: 'VOLUME_NOT_FOUND' });
  }

  /** Replaces a volume's record by what `change` makes of it: its name, its note. @throws TimebandError VOLUME_EXISTS, USAGE, LOCKED */
  async changeVolume(volume: Volume, change: (record: VolumeRecord) => VolumeRecord): Promise<VolumeRecord> {
    await using _lock = await this.#lockList('change volume');
    const record = change(volume.record);
    checkVolumeName(record.name);
    if (record.name !== volume.name) this.#requireMasterKey('give a volume another name');
    if (record.name !== volume.name && (await this.listVolumes()).volumes.some(({ name }) => name === record.name))
      throw new TimebandError(`volume "${record.name}" exists already; nothing was changed.`, { code: 'VOLUME_EXISTS' });
    await replaceFile(volume.layout.record, sealVolumeRecord(volume.context, record));
    return record;
  }

  /** Removes volumes that a killed process was making. The caller holds the lock of the list. */
  async #removeUnfinished(): Promise<void> {
    const names = (await listRequiredDirectory(this.layout.volumes)).filter((name) => UNFINISHED_VOLUME.test(name));
    for (const name of names) await removeTree(path.join(this.layout.volumes, name));
  }

  /** What a volume's sealed record says. @param id its folder's name @throws TimebandError RECORD_CORRUPT */
  openVolumeRecord(id: string, sealed: Uint8Array): VolumeRecord {
    const { volumeId, keys } = this.volumeContext(id);
    return volumeRecordCodec.decode(openRecord(keys.recordsKey, { kind: 'volume', volumeId }, sealed));
  }

  /** The key domain of that name; undefined without a name, or if this was opened with the key of one volume. @throws TimebandError USAGE */
  findDomain(name: string | undefined): KeyDomain | undefined {
    if (name === undefined) return undefined;
    checkDomainName(name);
    return this.#keys.domain(name);
  }

  /** What the key domain of another repository's volume is here: the same one under the same master key, else that of its name. */
  #ownDomain(theirs: KeyDomain | undefined): KeyDomain | undefined {
    if (theirs === undefined) return undefined;
    const same = this.#keys.domain(theirs.name, theirs.id);
    return same !== undefined && equalBytes(same.bandKey, theirs.bandKey) ? same : this.findDomain(theirs.name);
  }

  /** A key domain by its id, for a volume whose record is lost; undefined if this was opened with the key of one volume. */
  lostDomain(name: string, id: Uint8Array): KeyDomain | undefined {
    return this.#keys.domain(name, id);
  }

  /** Puts a record into the place of one that cannot be read. @throws TimebandError VOLUME_EXISTS, USAGE, LOCKED */
  async replaceVolumeRecord(id: string, record: VolumeRecord): Promise<void> {
    checkVolumeName(record.name);
    await using _lock = await this.#lockList('repair volume');
    if ((await this.listVolumes()).volumes.some(({ name }) => name === record.name))
      throw new TimebandError(`volume "${record.name}" exists already; the record of ${id} was left as it is.`, { code: 'VOLUME_EXISTS' });
    await replaceFile(this.#recordPath(id), sealVolumeRecord(this.volumeContext(id, record), record));
  }

  #recordPath(id: string): string {
    return volumeLayout(path.join(this.layout.volumes, id)).record;
  }

  async #lockList(command: string): Promise<Lock> {
    return await this.lock({ ...LIST_LOCK, command, attempts: VOLUMES_LOCK_ATTEMPTS });
  }

  /**
   * Removes a volume that has no session and nothing that a sync could go on with: what a first sync that failed leaves. One
   * without its record would be a damaged volume, so it goes at once.
   */
  async removeEmptyVolume(volume: Volume): Promise<void> {
    if ((await volume.sessionIds()).length > 0 || (await listDirectory(volume.layout.incoming)).length > 0) return;
    for (const moved of await moveToTrash(this.layout.trash, [volume.layout.root])) await removeTree(moved);
  }

  async #volumeIds(): Promise<string[]> {
    const only = this.#keys.onlyVolumeId;
    const ids = (await listRequiredDirectory(this.layout.volumes)).filter((name) => fromHex(name, ID_BYTES) !== undefined).sort();
    return only === undefined ? ids : ids.filter((id) => id === only);
  }

  async #openVolume(id: string): Promise<Volume> {
    const root = path.join(this.layout.volumes, id);
    const file = this.#recordPath(id);
    try {
      await requireRealDirectory(root);
      const record = this.openVolumeRecord(id, await readRegularFile(file, { maxBytes: MAX_SMALL_FILE_BYTES, what: 'volume record' }));
      return new Volume(root, record, { context: this.volumeContext(id, record), pageCache: this.#options.pageCacheFor?.(id) });
    } catch (error) {
      throw withPath(error, file);
    }
  }

  /** The keys of the volume whose folder has this name. */
  volumeContext(id: string, record: BandSettings = DEFAULT_SETTINGS): VolumeContext {
    return this.#contextOf(fromHex(id, ID_BYTES) ?? new Uint8Array(ID_BYTES), record);
  }

  /** Keys of a volume that is not there: for measuring what a first sync would store. */
  temporaryContext(settings: BandSettings = DEFAULT_SETTINGS): VolumeContext {
    this.#requireMasterKey('make a volume');
    return this.#contextOf(randomBytes(ID_BYTES), settings);
  }

  #contextOf(volumeId: Uint8Array, { bandBytes, padding, domain }: BandSettings): VolumeContext {
    return { volumeId, cipher: this.config.cipher, bandBytes, padding, keys: this.#keys.keysOf(volumeId, domain) };
  }

  /** Overwrites all keys; volumes and sessions of it cannot be used any more. */
  close(): void {
    this.#keys.wipe();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** @throws TimebandError WRONG_KEY */
function requireOwnKey({ root }: RepositoryLayout, { configDigest }: VolumeKey, digest: Uint8Array): void {
  if (equalBytes(configDigest, digest)) return;
  throw new TimebandError(`the volume key is not of the repository ${root}, or its repository.json was changed since the key was exported.`, {
    code: 'WRONG_KEY',
    path: root,
  });
}

/** A volume was not found, and may be one that cannot be read. */
function notFoundAmong(damaged: readonly DamagedVolume[], name: string, { root }: RepositoryLayout): TimebandError {
  const cause = damaged[0]?.error;
  const first = cause?.message.replace(/\.$/, '') ?? '';
  return new TimebandError(
    `no volume "${name}" among those of ${root} that can be read; ${damaged.length} more cannot be read: ${first}. Run "timeband check".`,
    { code: codeOf(damaged), cause },
  );
}

/** If the disk did not give back any of them, that may pass. */
function codeOf(damaged: readonly DamagedVolume[]): 'IO_ERROR' | 'RECORD_CORRUPT' {
  return damaged.every(({ error }) => error.code === 'IO_ERROR') ? 'IO_ERROR' : 'RECORD_CORRUPT';
}

/** What a disk says of a file that it cannot give back, while others are well: an I/O error, a damaged inode, a checksum that differs. */
const LOST_FILE: ReadonlySet<string | undefined> = new Set(['EIO', 'EUCLEAN', 'EBADMSG']);

function isDamage(error: unknown): error is TimebandError {
  return error instanceof TimebandError && (/^(RECORD|REPOSITORY)_/.test(error.code) || LOST_FILE.has(errnoOf(error.cause)));
}

/** Held by whoever adds a volume, or changes one's name. */
export const LIST_LOCK = { scope: 'volumes', what: 'the list of volumes' } as const;

function sealVolumeRecord({ keys, volumeId }: VolumeContext, record: VolumeRecord): Uint8Array {
  const nonce = randomBytes(RECORD_NONCE_BYTES);
  return sealRecord(keys.recordsKey, { kind: 'volume', volumeId }, { nonce, plain: volumeRecordCodec.encode(record) });
}
