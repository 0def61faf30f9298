/**
 * What the codecs need of cryptography, as one interface with two implementations: node:crypto
 * (fast, `crypto/node-primitives.ts`) and @noble (portable, `noble-primitives.ts`). Both give the same bytes.
 */

/** The AEAD that seals bands; fixed when a repository is made. */
export type CipherName = 'aes-256-gcm' | 'chacha20-poly1305';
export const CIPHER_NAMES: readonly CipherName[] = ['aes-256-gcm', 'chacha20-poly1305'];

/** Bytes that sealing adds to a chunk. */
export const TAG_BYTES = 16;
export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;

/** One AEAD operation: cipher, 32-byte key, 12-byte nonce. No associated data: the key commits to it. */
export interface AeadKey {
  readonly cipher: CipherName;
  readonly key: Uint8Array;
  readonly nonce: Uint8Array;
}

/** Refuses what one library would take for something else (a 16-byte key as AES-128) and another would not. */
export function checkAeadUse({ key, nonce }: AeadKey, bytes: { readonly needed: number; readonly out: Uint8Array }): void {
  checkKey(key);
  if (nonce.length !== NONCE_BYTES) throw new RangeError(`nonce: must be ${NONCE_BYTES} bytes`);
  if (bytes.out.length < bytes.needed) throw new RangeError(`out: must have room for ${bytes.needed} bytes`);
}

/** Refuses a key of another length than every key here has. */
export function checkKey(key: Uint8Array): void {
  if (key.length !== KEY_BYTES) throw new RangeError(`key: must be ${KEY_BYTES} bytes`);
}

export interface Primitives {
  /** SHA-256, 32 bytes (FIPS 180-4). */
  sha256(data: Uint8Array): Uint8Array;
  /** HKDF-Expand with SHA-256 (RFC 5869, section 2.3). */
  hkdfExpand(pseudoRandomKey: Uint8Array, info: Uint8Array, length: number): Uint8Array;
  /** GMAC: the 16-byte tag of AES-256-GCM over associated data alone, with a nonce of zeros (SP 800-38D). */
  fingerprint(key: Uint8Array, data: Uint8Array): Uint8Array;
  /** CRC-32 as in zip and gzip, unsigned. */
  crc32(data: Uint8Array): number;
  /** AES-256 in ECB mode without padding over whole 16-byte blocks (SP 800-38A). */
  encryptBlocks(key: Uint8Array, blocks: Uint8Array): Uint8Array;
  /** The inverse of encryptBlocks. */
  decryptBlocks(key: Uint8Array, blocks: Uint8Array): Uint8Array;
  /** Writes ciphertext ‖ 16-byte tag to `out` (length plain + 16). RFC 5116 / RFC 8439. */
  seal(aead: AeadKey, plain: Uint8Array, out: Uint8Array): void;
  /** Writes the plaintext to `out` (length sealed − 16); false, with nothing of a plaintext in `out`, if it is not authentic. */
  open(aead: AeadKey, sealed: Uint8Array, out: Uint8Array): boolean;
}

/** Compression of one chunk. */
export interface ChunkCodec {
  /** Compresses into `out` and returns the length. */
  compress(plain: Uint8Array, out: Uint8Array): number;
  /** Fills `out` exactly; false if the bytes are not zstd data of that size. Writers write one frame. */
  decompress(compressed: Uint8Array, out: Uint8Array): boolean;
}
