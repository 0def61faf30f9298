/** Bands for tests: contexts, content of every kind, and a codec whose compressed form never changes. */
import fc from 'fast-check';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { createZstdCodec } from '../../../bands/crypto/zstd.ts';
import { checkPadding, createBandScratch, decodeBand, encodeBand, openChunk } from '../../../bands/format/band-file.ts';
import { type BandContext, openBandHeader, paddedHeaderBytes, SALT_BYTES } from '../../../bands/format/band-header.ts';
import { CHUNK_BYTES, chunksPerBand } from '../../../bands/format/geometry.ts';
import { type ChunkCodec, CIPHER_NAMES, type CipherName } from '../../../bands/format/primitives.ts';
import { fill, hex } from '../../support/bytes.ts';

export const SMALL_BAND = 262_144;
export const SALT: Uint8Array = fill('salt', SALT_BYTES);
const zstd = createZstdCodec();

/** Frames a chunk of one repeated byte as one RLE block (RFC 8878, written by hand) and keeps all others raw; opens any frame. */
export const handCodec: ChunkCodec = {
  compress(plain, out) {
    const byte = plain[0] ?? 0;
    if (!plain.every((one) => one === byte)) return CHUNK_BYTES;
    out.set(hex('28b52ffda000000200030010'));
    out[12] = byte;
    return 13;
  },
  decompress: (compressed, out) => zstd.decompress(compressed, out),
};

export function contextOf(change: Partial<BandContext> = {}): BandContext {
  const cipher: CipherName = 'aes-256-gcm';
  const keys = { bandKey: fill('band key', 32), domainId: fill('volume', 16) };
  return { primitives: nodePrimitives, codec: zstd, cipher, bandBytes: SMALL_BAND, padding: undefined, ...keys, ...change };
}

/** A band file of its own memory. */
export function sealed(context: BandContext, plain: Uint8Array, salt: Uint8Array = SALT): Uint8Array {
  return encodeBand(context, plain, { salt, scratch: createBandScratch(context.bandBytes) }).file.slice();
}

export function opened(context: BandContext, file: Uint8Array, salt: Uint8Array = SALT): Uint8Array {
  const out = new Uint8Array(context.bandBytes).fill(0xee);
  decodeBand(context, file, { salt, scratch: new Uint8Array(CHUNK_BYTES), out });
  return out;
}

/** Opens a file as those do who vouch for it: padding is looked at, too. */
export function openedWithPadding(context: BandContext, file: Uint8Array, salt: Uint8Array = SALT): Uint8Array {
  const header = openBandHeader(context, file, { salt, fileBytes: file.length });
  checkPadding(context, header, { file, scratch: new Uint8Array(file.length) });
  return opened(context, file, salt);
}

/** Opens a file the way a mount does: the header alone, then single chunks, the last first. */
export function openedByChunks(context: BandContext, file: Uint8Array, salt: Uint8Array = SALT): Uint8Array {
  const out = new Uint8Array(context.bandBytes).fill(0xee);
  const scratch = new Uint8Array(CHUNK_BYTES);
  const header = openBandHeader(context, file.subarray(0, paddedHeaderBytes(context.bandBytes)), { salt, fileBytes: file.length });
  for (const [number, { offset, length }] of [...header.chunks.entries()].reverse()) {
    const chunk = out.subarray(number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES);
    openChunk(context, header, { number, sealed: file.subarray(offset, offset + length), scratch, out: chunk });
  }
  return out;
}

const CHUNK_KINDS = ['zero', 'constant', 'text', 'random', 'one bit', 'almost raw'] as const;
export type ChunkKind = (typeof CHUNK_KINDS)[number];

export function chunkOf(kind: ChunkKind, label: string): Uint8Array {
  const chunk = new Uint8Array(CHUNK_BYTES);
  const noise = (length: number): Uint8Array => fill(label, length);
  if (kind === 'constant') return chunk.fill((noise(1)[0] ?? 0) | 1);
  if (kind === 'random') return noise(CHUNK_BYTES);
  if (kind === 'text') return chunk.map((_, i) => 97 + ((i * i + label.length) % 23));
  if (kind === 'one bit') chunk[new DataView(noise(4).buffer).getUint32(0) % CHUNK_BYTES] = 0x10;
  if (kind === 'almost raw') chunk.set(noise(CHUNK_BYTES * (15 / 16)));
  return chunk;
}

export function bandOf(...chunks: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(chunks));
}

/** Bands that mix every kind of chunk. */
export function anyBand(bandBytes: number): fc.Arbitrary<Uint8Array> {
  const length = chunksPerBand(bandBytes);
  const kinds = fc.array(fc.constantFrom(...CHUNK_KINDS), { minLength: length, maxLength: length });
  return fc.tuple(kinds, fc.nat()).map(([list, seed]) => bandOf(...list.map((kind, i) => chunkOf(kind, `${seed} ${i}`))));
}

export const anyCipher: fc.Arbitrary<CipherName> = fc.constantFrom(...CIPHER_NAMES);
