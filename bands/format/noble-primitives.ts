/** The portable implementation of the primitives, in pure JavaScript from @noble. */
import { ecb, gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { expand } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { crc32 } from './crc32.ts';
import type { AeadKey, Primitives } from './primitives.ts';

function aeadOf({ cipher, key, nonce }: AeadKey): ReturnType<typeof gcm> {
  return cipher === 'aes-256-gcm' ? gcm(key, nonce) : chacha20poly1305(key, nonce);
}

export const noblePrimitives: Primitives = {
  sha256: (data) => sha256(data),
  hkdfExpand: (pseudoRandomKey, info, length) => expand(sha256, pseudoRandomKey, info, length),
  crc32,
  encryptBlocks: (key, blocks) => (blocks.length === 0 ? blocks : ecb(key, { disablePadding: true }).encrypt(blocks)),
  decryptBlocks: (key, blocks) => (blocks.length === 0 ? blocks : ecb(key, { disablePadding: true }).decrypt(blocks)),
  seal(aead, plain, out) {
    out.set(aeadOf(aead).encrypt(plain));
  },
  open(aead, sealed, out) {
    try {
      out.set(aeadOf(aead).decrypt(sealed));
      return true;
    } catch {
      return false; // noble throws for a tag that does not match and for nothing else here
    }
  },
};
