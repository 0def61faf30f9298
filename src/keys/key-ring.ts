/**
 * The keys of an open repository: the one place that holds them, derives those of volumes, and overwrites all of them at
 * the end. What opens a repository is its master key, or the key of one of its volumes.
 */
import { equalBytes, toHex } from '../../bands/format/bytes.ts';
import {
  deriveDomain,
  deriveDomainKey,
  deriveVolumeKey,
  deriveVolumeKeys,
  inDomain,
  type KeyDomain,
  type VolumeKeys,
  wipeKeys,
} from '../../bands/format/keys.ts';
import type { VolumeKey } from '../../bands/format/volume-key.ts';

/** The key itself, as processes of ours hand it on; whoever has it wipes it. */
export type KeyGrant = { readonly masterKey: Uint8Array } | { readonly volumeKey: VolumeKey };

export function wipeGrant(grant: KeyGrant): void {
  wipeKeys('masterKey' in grant ? grant.masterKey : grant.volumeKey.key);
}

/** A copy that is wiped on its own. */
function copyGrant(grant: KeyGrant): KeyGrant {
  if ('masterKey' in grant) return { masterKey: Uint8Array.from(grant.masterKey) };
  return { volumeKey: { ...grant.volumeKey, key: Uint8Array.from(grant.volumeKey.key) } };
}

export class KeyRing {
  readonly #grant: KeyGrant;
  readonly #volumes = new Map<string, HeldVolumeKeys>();
  #isWiped = false;

  /** Copies the key. */
  constructor(grant: KeyGrant) {
    this.#grant = copyGrant(grant);
  }

  get #open(): KeyGrant {
    if (this.#isWiped) throw keysAreGone();
    return this.#grant;
  }

  /** The id, in hex, of the only volume that can be opened; undefined if all can. */
  get onlyVolumeId(): string | undefined {
    return 'masterKey' in this.#grant ? undefined : toHex(this.#grant.volumeKey.volumeId);
  }

  /**
   * The keys of a volume, with the band key of its domain if it is in one. The ring keeps them and wipes them; using them
   * after that throws. @throws RangeError for a volume that this ring does not open
   */
  keysOf(volumeId: Uint8Array, domain?: KeyDomain | undefined): VolumeKeys {
    const id = `${toHex(volumeId)} ${domain === undefined ? '' : toHex(domain.id)}`;
    const held = this.#volumes.get(id) ?? this.#derive(volumeId, domain);
    this.#volumes.set(id, held);
    return held;
  }

  #derive(volumeId: Uint8Array, domain: KeyDomain | undefined): HeldVolumeKeys {
    const volumeKey = this.copyVolumeKey(volumeId);
    const keys = inDomain(deriveVolumeKeys(volumeKey, volumeId), domain);
    wipeKeys(volumeKey);
    return new HeldVolumeKeys(keys);
  }

  /** The key domain of that name; with `id`, the one of that id, whose name was lost. Undefined if this ring opens one volume only. */
  domain(name: string, id?: Uint8Array): KeyDomain | undefined {
    const grant = this.#open;
    if (!('masterKey' in grant)) return undefined;
    const { masterKey } = grant;
    return id === undefined ? deriveDomain(masterKey, name) : { name, id, bandKey: deriveDomainKey(masterKey, id) };
  }

  /** The key that opens one volume and nothing else: 32 bytes, which the caller wipes. */
  copyVolumeKey(volumeId: Uint8Array): Uint8Array {
    const grant = this.#open;
    if ('masterKey' in grant) return deriveVolumeKey(grant.masterKey, volumeId);
    if (equalBytes(grant.volumeKey.volumeId, volumeId)) return grant.volumeKey.key.slice();
    throw new RangeError('volumeId: of a volume that this key does not open');
  }

  /** Whether both open everything that the other does. */
  equals(other: KeyRing): boolean {
    const [a, b] = [this.#open, other.#open];
    return 'masterKey' in a && 'masterKey' in b && equalBytes(a.masterKey, b.masterKey);
  }

  copyGrant(): KeyGrant {
    return copyGrant(this.#open);
  }

  wipe(): void {
    this.#isWiped = true;
    wipeGrant(this.#grant);
    for (const keys of this.#volumes.values()) keys.wipe();
  }
}

/** Keys that refuse to be used once they are wiped: a band sealed under zeros would be open to everybody. */
class HeldVolumeKeys implements VolumeKeys {
  readonly domainId: Uint8Array;
  readonly #keys: VolumeKeys;
  #isWiped = false;

  constructor(keys: VolumeKeys) {
    this.domainId = keys.domainId;
    // Workers get these two: memory that all threads share is overwritten once for all of them.
    this.#keys = { ...keys, bandKey: moveToShared(keys.bandKey), fingerprintKey: moveToShared(keys.fingerprintKey) };
  }

  get #open(): VolumeKeys {
    if (this.#isWiped) throw keysAreGone();
    return this.#keys;
  }

  get recordsKey(): Uint8Array {
    return this.#open.recordsKey;
  }

  get namesKey(): Uint8Array {
    return this.#open.namesKey;
  }

  get bandKey(): Uint8Array {
    return this.#open.bandKey;
  }

  get fingerprintKey(): Uint8Array {
    return this.#open.fingerprintKey;
  }

  wipe(): void {
    this.#isWiped = true;
    const { recordsKey, namesKey, bandKey, fingerprintKey } = this.#keys;
    wipeKeys(recordsKey, namesKey, bandKey, fingerprintKey);
  }
}

function keysAreGone(): TypeError {
  return new TypeError('the repository was closed: its keys are gone');
}

function moveToShared(key: Uint8Array): Uint8Array {
  const shared = new Uint8Array(new SharedArrayBuffer(key.length));
  shared.set(key);
  wipeKeys(key);
  return shared;
}
