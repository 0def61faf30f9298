/** Band files of the vectors, with and without padding: what they are made of. */
import type { BandContext } from '../../../bands/format/band-header.ts';
import { CHUNK_BYTES } from '../../../bands/format/geometry.ts';
import type { Padding } from '../../../bands/format/padding.ts';
import type { CipherName } from '../../../bands/format/primitives.ts';
import { fill, hex } from '../../support/bytes.ts';
import { handCodec } from './band-support.ts';

export interface BandVector {
  readonly name: string;
  readonly cipher: CipherName;
  /** Absent: a file of version 1. */
  readonly pad?: Padding;
  readonly chunkCount: number;
  readonly bandKey: string;
  readonly domainId: string;
  readonly salt: string;
  readonly chunks: Readonly<Record<string, { readonly constant: number } | { readonly fill: string }>>;
  /** The whole file if it is small, or else its header. */
  readonly file?: string;
  readonly head?: string;
  readonly fileBytes: number;
  readonly fileSha256: string;
}

export function contextOfVector(vector: BandVector, primitives: BandContext['primitives']): BandContext {
  const { cipher, chunkCount, pad } = vector;
  const keys = { bandKey: hex(vector.bandKey), domainId: hex(vector.domainId) };
  return { primitives, codec: handCodec, cipher, bandBytes: chunkCount * CHUNK_BYTES, padding: pad, ...keys };
}

export function plainOfVector({ chunkCount, chunks }: BandVector): Uint8Array {
  const plain = new Uint8Array(chunkCount * CHUNK_BYTES);
  for (const [number, chunk] of Object.entries(chunks)) {
    const at = Number(number) * CHUNK_BYTES;
    if ('constant' in chunk) plain.fill(chunk.constant, at, at + CHUNK_BYTES);
    else plain.set(fill(chunk.fill, CHUNK_BYTES), at);
  }
  return plain;
}
