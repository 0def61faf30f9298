/** The two implementations against each other. */
import test from 'ava';
import fc from 'fast-check';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { type AeadKey, CIPHER_NAMES, KEY_BYTES, NONCE_BYTES, type Primitives, TAG_BYTES } from '../../../bands/format/primitives.ts';
import { flipBit, isSame } from '../../support/bytes.ts';
import { anyBytes } from './json-suite.ts';

const aeads: fc.Arbitrary<AeadKey> = fc.record({ cipher: fc.constantFrom(...CIPHER_NAMES), key: anyBytes(KEY_BYTES), nonce: anyBytes(NONCE_BYTES) });
// Lengths around the blocks of 16 and 64 bytes, and a few beyond.
const plains = fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ minLength: 1000, maxLength: 5000 }));

function seal(primitives: Primitives, aead: AeadKey, plain: Uint8Array): Uint8Array {
  const out = new Uint8Array(plain.length + TAG_BYTES);
  primitives.seal(aead, plain, out);
  return out;
}

function open(primitives: Primitives, aead: AeadKey, sealed: Uint8Array): Uint8Array | undefined {
  const out = new Uint8Array(Math.max(0, sealed.length - TAG_BYTES));
  return primitives.open(aead, sealed, out) ? out : undefined;
}

test('both implementations seal to the same bytes and open what the other sealed', (t) => {
  const agrees = (aead: AeadKey, plain: Uint8Array): boolean => {
    const sealed = seal(nodePrimitives, aead, plain);
    const [byNode, byNoble] = [open(nodePrimitives, aead, sealed), open(noblePrimitives, aead, sealed)];
    return (
      isSame(sealed, seal(noblePrimitives, aead, plain)) &&
      byNode !== undefined &&
      isSame(byNode, plain) &&
      byNoble !== undefined &&
      isSame(byNoble, plain)
    );
  };
  fc.assert(fc.property(aeads, plains, agrees), { numRuns: 300 });
  t.pass();
});

test('neither implementation opens bytes with any bit turned', (t) => {
  const refuses = (aead: AeadKey, plain: Uint8Array, at: number): boolean => {
    const sealed = seal(nodePrimitives, aead, plain);
    const damaged = flipBit(sealed, at % (sealed.length * 8));
    return open(nodePrimitives, aead, damaged) === undefined && open(noblePrimitives, aead, damaged) === undefined;
  };
  fc.assert(fc.property(aeads, plains, fc.nat(), refuses), { numRuns: 300 });
  t.pass();
});

test('neither implementation opens arbitrary bytes', (t) => {
  const refuses = (aead: AeadKey, sealed: Uint8Array): boolean =>
    open(nodePrimitives, aead, sealed) === undefined && open(noblePrimitives, aead, sealed) === undefined;
  fc.assert(fc.property(aeads, fc.uint8Array({ maxLength: 100 }), refuses), { numRuns: 300 });
  t.pass();
});

test('both implementations give equal digests, fingerprints, checksums, derived keys and blocks', (t) => {
  const agrees = (key: Uint8Array, data: Uint8Array, length: number): boolean => {
    const blocks = data.subarray(0, data.length - (data.length % 16));
    const sealed = nodePrimitives.encryptBlocks(key, blocks);
    return (
      isSame(nodePrimitives.sha256(data), noblePrimitives.sha256(data)) &&
      isSame(nodePrimitives.fingerprint(key, data), noblePrimitives.fingerprint(key, data)) &&
      nodePrimitives.crc32(data) === noblePrimitives.crc32(data) &&
      isSame(nodePrimitives.hkdfExpand(key, data, length), noblePrimitives.hkdfExpand(key, data, length)) &&
      isSame(sealed, noblePrimitives.encryptBlocks(key, blocks)) &&
      isSame(nodePrimitives.decryptBlocks(key, sealed), blocks) &&
      isSame(noblePrimitives.decryptBlocks(key, sealed), blocks)
    );
  };
  fc.assert(fc.property(anyBytes(KEY_BYTES), plains, fc.nat(300), agrees), { numRuns: 300 });
  t.pass();
});

test('a chunk of 128 KiB is sealed alike by both', (t) => {
  const plain = new Uint8Array(131_072).map((_, i) => i * 7);
  for (const cipher of CIPHER_NAMES) {
    const aead = { cipher, key: new Uint8Array(KEY_BYTES).fill(3), nonce: new Uint8Array(NONCE_BYTES).fill(0xff) };
    t.true(isSame(seal(nodePrimitives, aead, plain), seal(noblePrimitives, aead, plain)), cipher);
  }
});
