/**
 * What is authenticated: only the very bytes that were sealed open. Half of the inputs get their checksum mended, so that
 * they come as far as the seal.
 */
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { createZstdCodec } from '../../../bands/crypto/zstd.ts';
import { checkPadding, createBandScratch, decodeBand, encodeBand, hasValidCrc } from '../../../bands/format/band-file.ts';
import { type BandContext, CRC_BYTES, openBandHeader } from '../../../bands/format/band-header.ts';
import { equalBytes, toHex, writeU32le } from '../../../bands/format/bytes.ts';
import { crc32 } from '../../../bands/format/crc32.ts';
import { CHUNK_BYTES, MIN_BAND_BYTES } from '../../../bands/format/geometry.ts';
import { decodeName, encodeNames } from '../../../bands/format/names.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { decodeOverlayHeader, encodeOverlayHeader } from '../../../bands/format/overlay.ts';
import type { Padding } from '../../../bands/format/padding.ts';
import { CIPHER_NAMES, type CipherName, type Primitives } from '../../../bands/format/primitives.ts';
import { openRecord, type RecordPlace, sealRecord } from '../../../bands/format/record.ts';
import { FastRandom } from '../random.ts';
import { broken, type FuzzTarget } from '../target.ts';

const KEY = new Uint8Array(32).fill(11);
const VOLUME = new Uint8Array(16).fill(12);
const SALT = new Uint8Array(24).fill(13);
const LIBRARIES: readonly (readonly [string, Primitives])[] = [
  ['node:crypto', nodePrimitives],
  ['noble', noblePrimitives],
];
const GUARD = 0xa5;
const GUARD_BYTES = 4096;

function withMendedChecksum(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const end = copy.length - CRC_BYTES;
  if (end >= 0) writeU32le(copy, end, crc32(copy.subarray(0, end)));
  return copy;
}

function sealedTarget(name: string, code: 'RECORD_CORRUPT' | 'BAND_CORRUPT', sealed: Uint8Array, open: (bytes: Uint8Array) => void): FuzzTarget {
  let inputs = 0;
  return {
    name,
    samples: [sealed],
    codes: [code],
    decode(bytes) {
      const input = inputs++ % 2 === 0 ? bytes : withMendedChecksum(bytes);
      open(input);
      if (!equalBytes(input, sealed)) throw broken('nothing opens but the bytes that were sealed');
    },
  };
}

function recordTarget(): FuzzTarget {
  const place: RecordPlace = { kind: 'manifest', volumeId: VOLUME, at: '20261121T100000.123Z' };
  const plain = new Uint8Array(200).fill(65);
  const sealed = sealRecord(KEY, place, { nonce: SALT, plain });
  return sealedTarget('sealed record', 'RECORD_CORRUPT', sealed, (bytes) => {
    if (!equalBytes(openRecord(KEY, place, bytes), plain)) throw broken('a record opens to what was sealed');
  });
}

/** A chunk of each kind: compressed, raw, zeros. */
function plainBand(): Uint8Array {
  const plain = new Uint8Array(MIN_BAND_BYTES);
  plain.fill(66, 0, 5000);
  return plain;
}

function bandTarget(cipher: CipherName, [library, primitives]: readonly [string, Primitives], padding: Padding | undefined): FuzzTarget {
  const context: BandContext = {
    primitives,
    codec: createZstdCodec(),
    cipher,
    bandBytes: MIN_BAND_BYTES,
    bandKey: KEY,
    domainId: VOLUME,
    padding,
  };
  const plain = plainBand();
  const sealed = encodeBand(context, plain, { salt: SALT, scratch: createBandScratch(MIN_BAND_BYTES) }).file.slice();
  const out = new Uint8Array(MIN_BAND_BYTES);
  const scratch = new Uint8Array(CHUNK_BYTES);
  const room = new Uint8Array(sealed.length);
  return sealedTarget(`${padding === undefined ? '' : 'padded '}band file, ${cipher}, ${library}`, 'BAND_CORRUPT', sealed, (bytes) => {
    const header = openBandHeader(context, bytes, { salt: SALT, fileBytes: bytes.length });
    checkPadding(context, header, { file: bytes, scratch: room });
    decodeBand(context, bytes, { salt: SALT, scratch, out });
    if (!equalBytes(out, plain)) throw broken('a band decodes to what was sealed');
    // A band's checksum is for those who have no key; opening does not look at it.
    if (!hasValidCrc(primitives, bytes)) bytes.set(sealed.subarray(sealed.length - CRC_BYTES), bytes.length - CRC_BYTES);
  });
}

/** Chunks come to zstd authenticated; that it is safe with any bytes all the same is asked of it here. */
function zstdTarget(): FuzzTarget {
  const codec = createZstdCodec();
  const random = new FastRandom(1);
  const samples = [
    new Uint8Array(CHUNK_BYTES),
    Uint8Array.from({ length: CHUNK_BYTES }, (_, i) => (random.below(9) === 0 ? random.next() : i >> 8)),
  ].map((plain) => {
    const packed = new Uint8Array(2 * CHUNK_BYTES);
    return packed.slice(0, codec.compress(plain, packed));
  });
  const memory = new Uint8Array(CHUNK_BYTES + 2 * GUARD_BYTES).fill(GUARD);
  const out = memory.subarray(GUARD_BYTES, GUARD_BYTES + CHUNK_BYTES);
  return {
    name: 'zstd frame',
    samples,
    codes: [],
    decode(bytes) {
      codec.decompress(bytes, out);
      for (const guard of [memory.subarray(0, GUARD_BYTES), memory.subarray(GUARD_BYTES + CHUNK_BYTES)])
        if (guard.some((byte) => byte !== GUARD)) throw broken('zstd writes nothing outside of the chunk');
    },
  };
}

function namesTarget(): FuzzTarget {
  const range = { kind: 'band', first: 1000, count: 4 } as const;
  const names = encodeNames(nodePrimitives, KEY, range);
  return {
    name: 'names of files',
    samples: names.map((name) => Buffer.from(name, 'latin1')),
    codes: [],
    decode(bytes) {
      const name = Buffer.from(bytes).toString('latin1');
      const number = decodeName(nodePrimitives, KEY, { kind: 'band', name });
      if (number !== undefined && encodeNames(nodePrimitives, KEY, { ...range, first: number, count: 1 })[0] !== name)
        throw broken(`the name ${toHex(bytes)} is the name of its number`);
    },
  };
}

function overlayTarget(): FuzzTarget {
  const volume = { volumeId: VOLUME, keys: { recordsKey: KEY } };
  const header = { sessionId: '20261121T100000.123Z', manifestDigest: KEY, sizeBytes: 2 ** 40, salt: KEY };
  const sealed = encodeOverlayHeader(volume, header, SALT);
  return sealedTarget('header of an overlay', 'RECORD_CORRUPT', sealed, (bytes) => {
    if (decodeOverlayHeader(volume, bytes).sizeBytes !== header.sizeBytes) throw broken('a header opens to what was sealed');
  });
}

export const sealedTargets: readonly FuzzTarget[] = [
  recordTarget(),
  overlayTarget(),
  ...CIPHER_NAMES.flatMap((cipher) =>
    LIBRARIES.flatMap((library) => [undefined, 'padme' as const].map((padding) => bandTarget(cipher, library, padding))),
  ),
  zstdTarget(),
  namesTarget(),
];
