/**
 * Names of band files and index pages: AES-256-ECB of `domain byte ‖ 7 zeros ‖ number (u64be)`, in hex.
 * FORMAT.md, "Names". A permutation under the names key: names tell nobody else a position, and never collide.
 */
import { toHex, viewOf } from './bytes.ts';
import type { Primitives } from './primitives.ts';

const BLOCK_BYTES = 16;
const NUMBER_AT = 8;

/** What a name names; the first byte of the block. */
export type NameKind = 'band' | 'page';
const KIND_BYTE: Readonly<Record<NameKind, number>> = { band: 1, page: 2 };
/** The names of bands and pages on disk. */
export const NAME_PATTERN: RegExp = /^[0-9a-f]{32}$/;

/** The names of `count` consecutive numbers from `first`, with one call of the cipher. */
export function encodeNames(
  primitives: Pick<Primitives, 'encryptBlocks'>,
  namesKey: Uint8Array,
  range: { readonly kind: NameKind; readonly first: number; readonly count: number },
): string[] {
  const blocks = new Uint8Array(range.count * BLOCK_BYTES);
  const view = viewOf(blocks);
  for (let i = 0; i < range.count; i++) {
    blocks[i * BLOCK_BYTES] = KIND_BYTE[range.kind];
    view.setBigUint64(i * BLOCK_BYTES + NUMBER_AT, BigInt(range.first + i), false);
  }
  const hex = toHex(primitives.encryptBlocks(namesKey, blocks));
  return Array.from({ length: range.count }, (_, i) => hex.slice(i * 32, i * 32 + 32));
}

/** The number that a name stands for, or undefined if this key did not make it for that kind. */
export function decodeName(
  primitives: Pick<Primitives, 'decryptBlocks'>,
  namesKey: Uint8Array,
  named: { readonly kind: NameKind; readonly name: string },
): number | undefined {
  if (!NAME_PATTERN.test(named.name)) return undefined;
  const sealed = Uint8Array.from({ length: BLOCK_BYTES }, (_, i) => Number.parseInt(named.name.slice(i * 2, i * 2 + 2), 16));
  const block = primitives.decryptBlocks(namesKey, sealed);
  if (block[0] !== KIND_BYTE[named.kind]) return undefined;
  for (let i = 1; i < NUMBER_AT; i++) if (block[i] !== 0) return undefined;
  const number = viewOf(block).getBigUint64(NUMBER_AT, false);
  return number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : undefined;
}
