/** The portable implementation of the primitives, in pure JavaScript from @noble. */
import { ecb, gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { expand } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { crc32 } from './crc32.ts';
import { type AeadKey, checkAeadUse, checkKey, NONCE_BYTES, type Primitives, TAG_BYTES } from './primitives.ts';

function aeadOf({ cipher, key, nonce }: AeadKey): ReturnType<typeof gcm> {
  return cipher === 'aes-256-gcm' ? gcm(key, nonce) : chacha20poly1305(key, nonce);
}

export const noblePrimitives: Primitives = {
  sha256: (data) => sha256(data),
  hkdfExpand(pseudoRandomKey, info, length) {
    checkKey(pseudoRandomKey);
    return expand(sha256, pseudoRandomKey, info, length);
  },
  fingerprint(key, data) {
    checkKey(key);
    return gcm(key, new Uint8Array(NONCE_BYTES), data).encrypt(new Uint8Array(0));
  },
  crc32,
  encryptBlocks(key, blocks) {
    checkKey(key);
    return blocks.length === 0 ? blocks : ecb(key, { disablePadding: true }).encrypt(blocks);
  },
  decryptBlocks(key, blocks) {
    checkKey(key);
    return blocks.length === 0 ? blocks : ecb(key, { disablePadding: true }).decrypt(blocks);
  },
  seal(aead, plain, out) {
    checkAeadUse(aead, { needed: plain.length + TAG_BYTES, out });
    out.set(aeadOf(aead).encrypt(plain));
  },
  open(aead, sealed, out) {
    if (sealed.length < TAG_BYTES) return false;
    checkAeadUse(aead, { needed: sealed.length - TAG_BYTES, out });
    let plain: Uint8Array;
    try {
      plain = aeadOf(aead).decrypt(sealed);
    } catch {
      return false; // lengths were checked: what is left is a tag that does not match
    }
    out.set(plain);
    return true;
  },
};
