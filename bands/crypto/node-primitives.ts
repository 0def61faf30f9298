/**
 * The fast implementation of the primitives, on node:crypto and node:zlib. Where this runtime's OpenSSL
 * refuses an algorithm (a FIPS build, a trimmed library), the portable code answers instead.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, getCiphers } from 'node:crypto';
import { crc32 } from 'node:zlib';
import {
  type AeadKey,
  CIPHER_NAMES,
  type CipherName,
  checkAeadUse,
  checkKey,
  NONCE_BYTES,
  type Primitives,
  TAG_BYTES,
} from '../format/primitives.ts';

const SHA256_BYTES = 32;
const supported = new Set(getCiphers());
const isComplete = [...CIPHER_NAMES, 'aes-256-ecb'].every((cipher) => supported.has(cipher));
/** The portable code, loaded only where something is missing: building its AES tables takes 50 ms a thread. */
const portable: Primitives | undefined = isComplete ? undefined : (await import('../format/noble-primitives.ts')).noblePrimitives;

/** Whether node:crypto runs `cipher` here. */
export function hasNativeCipher(cipher: CipherName | 'aes-256-ecb'): boolean {
  return supported.has(cipher);
}

/** The portable code, for a cipher that node:crypto does not run here. */
function portableFor(cipher: CipherName | 'aes-256-ecb'): Primitives | undefined {
  return hasNativeCipher(cipher) ? undefined : portable;
}

function hkdfExpand(pseudoRandomKey: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  checkKey(pseudoRandomKey);
  const blocks = Math.ceil(length / SHA256_BYTES);
  if (blocks > 255) throw new RangeError('length: HKDF-Expand gives at most 255 blocks');
  const output = new Uint8Array(blocks * SHA256_BYTES);
  let previous: Uint8Array = new Uint8Array(0);
  for (let i = 0; i < blocks; i++) {
    previous = createHmac('sha256', pseudoRandomKey)
      .update(previous)
      .update(info)
      .update(Uint8Array.of(i + 1))
      .digest();
    output.set(previous, i * SHA256_BYTES);
  }
  return output.subarray(0, length);
}

function ecbBlocks(direction: 'encrypt' | 'decrypt', key: Uint8Array, blocks: Uint8Array): Uint8Array {
  const fallback = portableFor('aes-256-ecb');
  if (fallback !== undefined) return direction === 'encrypt' ? fallback.encryptBlocks(key, blocks) : fallback.decryptBlocks(key, blocks);
  const make = direction === 'encrypt' ? createCipheriv : createDecipheriv;
  const cipher = make('aes-256-ecb', key, null).setAutoPadding(false);
  const output = cipher.update(blocks);
  cipher.final(); // whole blocks without padding: nothing is left, but a partial block throws here
  return output;
}

// The type of createCipheriv depends on the literal cipher name; both of ours take the same options.
const AEAD_OPTIONS = { authTagLength: TAG_BYTES } as const;

/** Larger outputs are allocated afresh each time, and their page faults cost a third of the throughput. */
const PIECE_BYTES = 32_768;

function updateInPieces(cipher: { update(data: Uint8Array): Buffer }, data: Uint8Array, out: Uint8Array): void {
  for (let at = 0; at < data.length; at += PIECE_BYTES) out.set(cipher.update(data.subarray(at, at + PIECE_BYTES)), at);
}

function cipherOf({ cipher, key, nonce }: AeadKey): ReturnType<typeof createCipheriv> & { getAuthTag(): Buffer } {
  return cipher === 'aes-256-gcm' ? createCipheriv(cipher, key, nonce, AEAD_OPTIONS) : createCipheriv(cipher, key, nonce, AEAD_OPTIONS);
}

function decipherOf({ cipher, key, nonce }: AeadKey): ReturnType<typeof createDecipheriv> & { setAuthTag(tag: Uint8Array): unknown } {
  return cipher === 'aes-256-gcm' ? createDecipheriv(cipher, key, nonce, AEAD_OPTIONS) : createDecipheriv(cipher, key, nonce, AEAD_OPTIONS);
}

export const nodePrimitives: Primitives = {
  sha256: (data) => createHash('sha256').update(data).digest(),
  hkdfExpand,
  fingerprint(key, data) {
    const fallback = portableFor('aes-256-gcm');
    if (fallback !== undefined) return fallback.fingerprint(key, data);
    checkKey(key);
    const cipher = createCipheriv('aes-256-gcm', key, new Uint8Array(NONCE_BYTES), AEAD_OPTIONS).setAAD(data);
    cipher.final();
    return cipher.getAuthTag();
  },
  crc32: (data) => crc32(data),
  encryptBlocks: (key, blocks) => ecbBlocks('encrypt', key, blocks),
  decryptBlocks: (key, blocks) => ecbBlocks('decrypt', key, blocks),
  seal(aead, plain, out) {
    checkAeadUse(aead, { needed: plain.length + TAG_BYTES, out });
    const fallback = portableFor(aead.cipher);
    if (fallback !== undefined) return fallback.seal(aead, plain, out);
    const cipher = cipherOf(aead);
    updateInPieces(cipher, plain, out);
    cipher.final();
    out.set(cipher.getAuthTag(), plain.length);
  },
  open(aead, sealed, out) {
    const fallback = portableFor(aead.cipher);
    if (fallback !== undefined) return fallback.open(aead, sealed, out);
    const end = sealed.length - TAG_BYTES;
    if (end < 0) return false;
    checkAeadUse(aead, { needed: end, out });
    const decipher = decipherOf(aead);
    decipher.setAuthTag(sealed.subarray(end));
    updateInPieces(decipher, sealed.subarray(0, end), out);
    try {
      decipher.final();
      return true;
    } catch {
      out.fill(0, 0, end); // the tag does not match: nothing of the plaintext leaves this function
      return false;
    }
  },
};
