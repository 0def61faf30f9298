/**
 * A key slot: one way to the master key. FORMAT.md, "Key slot". A JSON file of scrypt's parameters and salt, and the
 * master key wrapped by XChaCha20-Poly1305 under the derived key. Version 1 knew passphrases only; version 2, which is
 * written now, says which repository it belongs to, has a checksum, and binds its kind.
 */
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { TimebandError } from '../errors.ts';
import { concat, toHex, utf8 } from './bytes.ts';
import { requireChecksum, withChecksum } from './checked-json.ts';
import { type Fields, type JsonCodec, jsonCodec } from './json-record.ts';
import { DIGEST_BYTES } from './manifest.ts';
import { KEY_BYTES, TAG_BYTES } from './primitives.ts';
import { RECORD_NONCE_BYTES } from './record.ts';

const FORMAT = 'timeband-key-slot';
export const SLOT_ID_BYTES = 8;
export const SCRYPT_SALT_BYTES = 32;
const LABELS = { 1: utf8('timeband/v1/key-slot'), 2: utf8('timeband/v2/key-slot') } as const;

/** scrypt (RFC 7914): N = 2^logN. Memory is 128 · N · r bytes. */
export interface ScryptParameters {
  readonly logN: number;
  readonly r: number;
  readonly p: number;
}
export const DEFAULT_SCRYPT: ScryptParameters = { logN: 17, r: 8, p: 1 };
/** Bounds on what a slot file may ask of this machine: at most 2 GiB and 16 passes; at least what is not a joke. */
const SCRYPT_BOUNDS = { logN: [10, 21], r: [1, 32], p: [1, 16] } as const;
const MAX_SCRYPT_BYTES = 2 ** 31;

/** What opens a slot. */
export type SlotKind = 'passphrase' | 'key-file' | 'recovery-phrase';
export const SLOT_KINDS: readonly SlotKind[] = ['passphrase', 'key-file', 'recovery-phrase'];

interface SlotFields {
  readonly id: Uint8Array;
  readonly createdMs: number;
  readonly scrypt: ScryptParameters;
  readonly salt: Uint8Array;
  readonly nonce: Uint8Array;
  /** The master key's ciphertext and tag, 48 bytes. */
  readonly wrapped: Uint8Array;
}

export type KeySlot = SlotFields &
  (
    | { readonly version: 1; readonly kind: 'passphrase' }
    /** `configDigest`: SHA-256 of the repository.json that the slot was made for. */
    | { readonly version: 2; readonly kind: SlotKind; readonly configDigest: Uint8Array }
  );

export function scryptMemoryBytes({ logN, r }: ScryptParameters): number {
  return 128 * 2 ** logN * r;
}

function kdfToJson({ scrypt, salt }: SlotFields): unknown {
  return { name: 'scrypt', logN: scrypt.logN, r: scrypt.r, p: scrypt.p, salt: toHex(salt) };
}

/** A slot of version 2. */
type BoundSlot = Extract<KeySlot, { version: 2 }>;

function jsonOf(slot: KeySlot): Readonly<Record<string, unknown>> {
  const about = { slot: toHex(slot.id), kind: slot.kind, created: new Date(slot.createdMs).toISOString() };
  return { ...about, kdf: kdfToJson(slot), nonce: toHex(slot.nonce), wrapped: toHex(slot.wrapped) };
}

function boundSlotToJson(slot: BoundSlot): { readonly checksum: string } {
  return withChecksum({ format: FORMAT, version: 2, repository: toHex(slot.configDigest), ...jsonOf(slot) });
}

function readScrypt(kdf: Fields): ScryptParameters {
  kdf.constant('name', 'scrypt');
  const scrypt = { logN: kdf.integer('logN'), r: kdf.integer('r'), p: kdf.integer('p') };
  const { logN, r, p } = scrypt;
  const asks = `key slot: asks for scrypt with N = 2^${logN}, r = ${r}, p = ${p}`;
  if (logN >= 16 * r) throw new TimebandError(`${asks}, which do not exist (RFC 7914, section 6)`, { code: 'RECORD_CORRUPT' });
  const isWithin = (['logN', 'r', 'p'] as const).every((name) => SCRYPT_BOUNDS[name][0] <= scrypt[name] && scrypt[name] <= SCRYPT_BOUNDS[name][1]);
  if (isWithin && scryptMemoryBytes(scrypt) <= MAX_SCRYPT_BYTES) return scrypt;
  throw new TimebandError(
    `${asks}: ${Math.ceil(scryptMemoryBytes(scrypt) / 2 ** 20)} MiB of memory and ${p} pass(es). Refused: it is damaged, or was altered to hurt this machine`,
    { code: 'RECORD_CORRUPT' },
  );
}

export const keySlotCodec: JsonCodec<KeySlot> = jsonCodec('key slot', {
  indent: 2,
  toJson: (slot) => (slot.version === 1 ? { format: FORMAT, version: 1, ...jsonOf(slot) } : boundSlotToJson(slot)),
  fromJson(fields) {
    fields.constant('format', FORMAT);
    const version = fields.integer('version', 1, 2);
    const kdf = fields.object('kdf');
    const slot: SlotFields = {
      id: fields.hex('slot', SLOT_ID_BYTES),
      createdMs: fields.time('created'),
      scrypt: readScrypt(kdf),
      salt: kdf.hex('salt', SCRYPT_SALT_BYTES),
      nonce: fields.hex('nonce', RECORD_NONCE_BYTES),
      wrapped: fields.hex('wrapped', KEY_BYTES + TAG_BYTES),
    };
    if (version === 1) return { ...slot, version, kind: fields.oneOf('kind', ['passphrase']) };
    const bound: BoundSlot = { ...slot, version: 2, kind: fields.oneOf('kind', SLOT_KINDS), configDigest: fields.hex('repository', DIGEST_BYTES) };
    requireChecksum('key slot', fields, boundSlotToJson(bound));
    return bound;
  },
});

/** What a slot's wrap is bound to. */
export interface SlotBinding {
  readonly version: 1 | 2;
  readonly kind: SlotKind;
  /** SHA-256 of the bytes of repository.json. */
  readonly configDigest: Uint8Array;
  readonly slotId: Uint8Array;
  readonly nonce: Uint8Array;
}

function cipherOf(slotKey: Uint8Array, { version, kind, ...binding }: SlotBinding): ReturnType<typeof xchacha20poly1305> {
  const associated = concat(LABELS[version], Uint8Array.of(0), binding.configDigest, binding.slotId, utf8(version === 1 ? '' : kind));
  return xchacha20poly1305(slotKey, binding.nonce, associated);
}

/** Wraps the master key under the 32-byte key that scrypt gave. */
export function wrapMasterKey(slotKey: Uint8Array, binding: SlotBinding, masterKey: Uint8Array): Uint8Array {
  return cipherOf(slotKey, binding).encrypt(masterKey);
}

/** The master key, or undefined if the key (so: the passphrase) or the binding is another. */
export function unwrapMasterKey(slotKey: Uint8Array, binding: SlotBinding, wrapped: Uint8Array): Uint8Array | undefined {
  try {
    return cipherOf(slotKey, binding).decrypt(wrapped);
  } catch {
    return undefined; // noble throws only for a tag that does not match
  }
}
