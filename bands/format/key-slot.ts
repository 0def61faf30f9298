/**
 * A key slot: one way to the master key. FORMAT.md, "Key slot". A JSON file of
 * scrypt's parameters and salt, and the master key wrapped by XChaCha20-Poly1305 under the derived key, with
 * associated data label ‖ 0 ‖ SHA-256(repository.json) ‖ slot id.
 */
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { TimebandError } from '../errors.ts';
import { concat, toHex, utf8 } from './bytes.ts';
import { type JsonCodec, jsonCodec } from './json-record.ts';
import { KEY_BYTES, TAG_BYTES } from './primitives.ts';
import { RECORD_NONCE_BYTES } from './record.ts';

export const SLOT_ID_BYTES = 8;
export const SCRYPT_SALT_BYTES = 32;
const LABEL = utf8('timeband/v1/key-slot');

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

export interface KeySlot {
  readonly id: Uint8Array;
  readonly kind: 'passphrase';
  readonly createdMs: number;
  readonly scrypt: ScryptParameters;
  readonly salt: Uint8Array;
  readonly nonce: Uint8Array;
  /** The master key's ciphertext and tag, 48 bytes. */
  readonly wrapped: Uint8Array;
}

export function scryptMemoryBytes({ logN, r }: ScryptParameters): number {
  return 128 * 2 ** logN * r;
}

export const keySlotCodec: JsonCodec<KeySlot> = jsonCodec('key slot', {
  indent: 2,
  toJson: (slot) => ({
    format: 'timeband-key-slot',
    version: 1,
    slot: toHex(slot.id),
    kind: slot.kind,
    created: new Date(slot.createdMs).toISOString(),
    kdf: { name: 'scrypt', logN: slot.scrypt.logN, r: slot.scrypt.r, p: slot.scrypt.p, salt: toHex(slot.salt) },
    nonce: toHex(slot.nonce),
    wrapped: toHex(slot.wrapped),
  }),
  fromJson(fields) {
    fields.constant('format', 'timeband-key-slot');
    fields.constant('version', 1);
    const kdf = fields.object('kdf');
    kdf.constant('name', 'scrypt');
    const scrypt = {
      logN: kdf.integer('logN', ...SCRYPT_BOUNDS.logN),
      r: kdf.integer('r', ...SCRYPT_BOUNDS.r),
      p: kdf.integer('p', ...SCRYPT_BOUNDS.p),
    };
    if (scrypt.logN >= 16 * scrypt.r) {
      throw new TimebandError(`key slot: scrypt has no N = 2^${scrypt.logN} for r = ${scrypt.r} (RFC 7914, section 6)`, { code: 'RECORD_CORRUPT' });
    }
    if (scryptMemoryBytes(scrypt) > MAX_SCRYPT_BYTES) {
      throw new TimebandError(`key slot: asks for ${scryptMemoryBytes(scrypt)} bytes of memory; more than ${MAX_SCRYPT_BYTES} is refused`, {
        code: 'RECORD_CORRUPT',
      });
    }
    return {
      id: fields.hex('slot', SLOT_ID_BYTES),
      kind: fields.oneOf('kind', ['passphrase']),
      createdMs: fields.time('created'),
      scrypt,
      salt: kdf.hex('salt', SCRYPT_SALT_BYTES),
      nonce: fields.hex('nonce', RECORD_NONCE_BYTES),
      wrapped: fields.hex('wrapped', KEY_BYTES + TAG_BYTES),
    };
  },
});

/** What a slot's wrap is bound to. */
export interface SlotBinding {
  /** SHA-256 of the bytes of repository.json. */
  readonly configDigest: Uint8Array;
  readonly slotId: Uint8Array;
  readonly nonce: Uint8Array;
}

function cipherOf(slotKey: Uint8Array, binding: SlotBinding): ReturnType<typeof xchacha20poly1305> {
  return xchacha20poly1305(slotKey, binding.nonce, concat(LABEL, Uint8Array.of(0), binding.configDigest, binding.slotId));
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
