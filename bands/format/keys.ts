/**
 * The key tree. FORMAT.md, "Keys".
 *
 *     master ┬─ volume key (one a volume) ── records, names, band and fingerprint key
 *            └─ domain key (one a key domain) ── band key of the volumes in it, instead of their own
 *
 * Each arrow is HKDF-Expand with SHA-256 (RFC 5869): info = label ‖ 0 ‖ id.
 */
import { expand } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { concat, utf8 } from './bytes.ts';
import { KEY_BYTES } from './primitives.ts';

/** Bytes of a volume's, repository's or key domain's id. */
export const ID_BYTES = 16;

/** The keys of one volume. Each is 32 bytes; `wipeKeys` overwrites them. */
export interface VolumeKeys {
  readonly recordsKey: Uint8Array;
  readonly namesKey: Uint8Array;
  readonly bandKey: Uint8Array;
  /** For the fingerprints by which a sync recognises a band that did not change. */
  readonly fingerprintKey: Uint8Array;
  /** 16 bytes: the key domain that the band key belongs to; the volume's own id by default. */
  readonly domainId: Uint8Array;
}

function derive(key: Uint8Array, label: string, id: Uint8Array): Uint8Array {
  return expand(sha256, key, concat(utf8(label), Uint8Array.of(0), id), KEY_BYTES);
}

/** The volume key: good for one volume and nothing else. */
export function deriveVolumeKey(masterKey: Uint8Array, volumeId: Uint8Array): Uint8Array {
  return derive(masterKey, 'timeband/v1/volume', volumeId);
}

export function deriveVolumeKeys(volumeKey: Uint8Array, volumeId: Uint8Array): VolumeKeys {
  return {
    recordsKey: derive(volumeKey, 'timeband/v1/records', volumeId),
    namesKey: derive(volumeKey, 'timeband/v1/names', volumeId),
    bandKey: derive(volumeKey, 'timeband/v1/bands', volumeId),
    fingerprintKey: derive(volumeKey, 'timeband/v1/fingerprints', volumeId),
    domainId: volumeId,
  };
}

/** A key domain: volumes that share a band key, so that equal bands of them can be one file. */
export interface KeyDomain {
  readonly name: string;
  /** 16 bytes. */
  readonly id: Uint8Array;
  /** 32 bytes. */
  readonly bandKey: Uint8Array;
}

/** The domain of that name; every machine that holds the master key derives the same. */
export function deriveDomain(masterKey: Uint8Array, name: string): KeyDomain {
  const id = derive(masterKey, 'timeband/v1/domain-id', utf8(name)).slice(0, ID_BYTES);
  return { name, id, bandKey: deriveDomainKey(masterKey, id) };
}

/** The band key of a domain by its id, which manifests state. */
export function deriveDomainKey(masterKey: Uint8Array, id: Uint8Array): Uint8Array {
  const domainKey = derive(masterKey, 'timeband/v1/domain', id);
  const bandKey = derive(domainKey, 'timeband/v1/bands', id);
  wipeKeys(domainKey);
  return bandKey;
}

/** A volume's keys in a domain; without one, as they are. The own band key is of no use then, and wiped. */
export function inDomain(keys: VolumeKeys, domain: KeyDomain | undefined): VolumeKeys {
  if (domain === undefined) return keys;
  wipeKeys(keys.bandKey);
  return { ...keys, bandKey: Uint8Array.from(domain.bandKey), domainId: domain.id };
}

/** Overwrites keys with zeros. The runtime may hold copies that it cannot reach. */
export function wipeKeys(...keys: readonly Uint8Array[]): void {
  for (const key of keys) key.fill(0);
}
