/**
 * The file of an overlay: what was written over a session, and nothing of it in the repository. FORMAT.md, "Overlay file".
 *
 *     0      4   length of the sealed record, u32le
 *     4      n   sealed record of kind `overlay`, then zeros
 *     4096   m   map: a bit for each block of 4 KiB that is here, bit 0 of byte 0 first; rounded up to 4096
 *     4096+m …   the blocks, each at its place, sealed with AES-256-XTS; one of zeros is zeros here, too
 */
import { expand } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { TimebandError } from '../errors.ts';
import { concat, isAllZero, readU32le, toHex, utf8, writeU32le } from './bytes.ts';
import { SECTOR_BYTES } from './geometry.ts';
import { type JsonCodec, jsonCodec } from './json-record.ts';
import type { VolumeKeys } from './keys.ts';
import { openRecord, sealRecord } from './record.ts';

/** What is copied up, and mapped by one bit. */
export const OVERLAY_BLOCK_BYTES = 4096;
export const OVERLAY_HEADER_BYTES = 4096;
export const OVERLAY_SALT_BYTES = 32;
const LENGTH_BYTES = 4;
const XTS_KEY_BYTES = 64;
const DIGEST_BYTES = 32;

/** Which session an overlay lies over, so that it is never put over another. */
export interface OverlayHeader {
  readonly sessionId: string;
  /** SHA-256 of the session's sealed manifest. */
  readonly manifestDigest: Uint8Array;
  readonly sizeBytes: number;
  /** 32 random bytes, from which the key of the blocks comes. */
  readonly salt: Uint8Array;
}

/** Where the parts of an overlay's file are. */
export interface OverlayLayout {
  readonly blocks: number;
  readonly mapBytes: number;
  readonly dataAt: number;
  readonly fileBytes: number;
}

export function overlayLayout(sizeBytes: number): OverlayLayout {
  const blocks = Math.ceil(sizeBytes / OVERLAY_BLOCK_BYTES);
  const mapBytes = Math.ceil(blocks / 8 / OVERLAY_BLOCK_BYTES) * OVERLAY_BLOCK_BYTES;
  const dataAt = OVERLAY_HEADER_BYTES + mapBytes;
  return { blocks, mapBytes, dataAt, fileBytes: dataAt + blocks * OVERLAY_BLOCK_BYTES };
}

/** The key of an overlay's blocks: both keys of XTS, 64 bytes. */
export function deriveOverlayKey({ recordsKey }: Pick<VolumeKeys, 'recordsKey'>, salt: Uint8Array): Uint8Array {
  return expand(sha256, recordsKey, concat(utf8('timeband/v1/overlay'), Uint8Array.of(0), salt), XTS_KEY_BYTES);
}

const headerCodec: JsonCodec<OverlayHeader> = jsonCodec('overlay', {
  toJson: (header) => ({
    format: 'timeband-overlay',
    version: 1,
    session: header.sessionId,
    manifest: toHex(header.manifestDigest),
    sizeBytes: header.sizeBytes,
    salt: toHex(header.salt),
  }),
  fromJson(fields) {
    fields.constant('format', 'timeband-overlay');
    fields.constant('version', 1);
    return {
      sessionId: fields.string('session'),
      manifestDigest: fields.hex('manifest', DIGEST_BYTES),
      sizeBytes: fields.integer('sizeBytes', SECTOR_BYTES),
      salt: fields.hex('salt', OVERLAY_SALT_BYTES),
    };
  },
});

/** Whose the overlay is. */
export interface OverlayVolume {
  readonly volumeId: Uint8Array;
  readonly keys: Pick<VolumeKeys, 'recordsKey'>;
}

/** The first 4096 bytes of the file. `nonce` is 24 random bytes. */
export function encodeOverlayHeader({ volumeId, keys }: OverlayVolume, header: OverlayHeader, nonce: Uint8Array): Uint8Array {
  const sealed = sealRecord(keys.recordsKey, { kind: 'overlay', volumeId }, { nonce, plain: headerCodec.encode(header) });
  const bytes = new Uint8Array(OVERLAY_HEADER_BYTES);
  writeU32le(bytes, 0, sealed.length);
  bytes.set(sealed, LENGTH_BYTES);
  return bytes;
}

/** @throws TimebandError RECORD_CORRUPT for anything else than the overlay of a session of this volume */
export function decodeOverlayHeader({ volumeId, keys }: OverlayVolume, bytes: Uint8Array): OverlayHeader {
  const end = bytes.length === OVERLAY_HEADER_BYTES ? LENGTH_BYTES + readU32le(bytes, 0) : Number.POSITIVE_INFINITY;
  if (end > bytes.length || !isAllZero(bytes.subarray(end))) throw new TimebandError('overlay: no header', { code: 'RECORD_CORRUPT' });
  return headerCodec.decode(openRecord(keys.recordsKey, { kind: 'overlay', volumeId }, bytes.subarray(LENGTH_BYTES, end)));
}
