/**
 * Which digests are known somewhere, in a few bits each (a Bloom filter over shared memory): what it does not know is new for
 * certain, what it knows may be new all the same, once in some hundred times. Digests are SHA-256, so their own bits serve
 * as the hash functions.
 */
import { readU32le } from '../format/bytes.ts';

const BITS_PER_DIGEST = 16;
const PROBES = 4;
const MIN_BITS = 2 ** 16;
/** 16 MiB, for 8 million bands (16 TiB) at full strength; beyond, it errs more often. */
const MAX_BITS = 2 ** 27;

/** An empty filter for about `count` digests. */
export function createDigestFilter(count: number): Uint8Array {
  const bits = Math.min(MAX_BITS, Math.max(MIN_BITS, 2 ** Math.ceil(Math.log2(Math.max(1, count * BITS_PER_DIGEST)))));
  return new Uint8Array(new SharedArrayBuffer(bits / 8));
}

export function addDigest(filter: Uint8Array, digest: Uint8Array): void {
  for (let probe = 0; probe < PROBES; probe++) {
    const bit = bitOf(filter, digest, probe);
    filter[bit >>> 3] = (filter[bit >>> 3] ?? 0) | (1 << (bit & 7));
  }
}

export function mayKnow(filter: Uint8Array, digest: Uint8Array): boolean {
  for (let probe = 0; probe < PROBES; probe++) {
    const bit = bitOf(filter, digest, probe);
    if (((filter[bit >>> 3] ?? 0) & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}

/** The length is a power of two. */
function bitOf(filter: Uint8Array, digest: Uint8Array, probe: number): number {
  return readU32le(digest, probe * 4) & (filter.length * 8 - 1);
}
