import test from 'ava';
import { hasNativeCipher, nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { fill, sameBytes } from '../../support/bytes.ts';
import { testPrimitives } from '../format/primitives-suite.ts';

testPrimitives('node', nodePrimitives);

test('node: the OpenSSL of the supported runtimes runs every cipher itself', (t) => {
  for (const cipher of ['aes-256-gcm', 'chacha20-poly1305', 'aes-256-ecb'] as const) t.true(hasNativeCipher(cipher), cipher);
});

test('node: derived bytes are no Buffer, of which slice would be a view and not a copy', (t) => {
  const output = nodePrimitives.hkdfExpand(fill('key', 32), new Uint8Array(0), 76);
  t.false(Buffer.isBuffer(output));
  const nonce = output.subarray(32, 44).slice();
  nonce.fill(0);
  sameBytes(t, output, nodePrimitives.hkdfExpand(fill('key', 32), new Uint8Array(0), 76));
});

test('node: open leaves zeros, and nothing of a plaintext, when the bytes are not authentic', (t) => {
  const aead = { cipher: 'aes-256-gcm', key: fill('key', 32), nonce: fill('nonce', 12) } as const;
  const out = new Uint8Array(16).fill(0xee);
  t.false(nodePrimitives.open(aead, fill('forged', 32), out));
  t.true(out.every((byte) => byte === 0));
});

test('node: a key or nonce that no cipher takes is the caller’s mistake', (t) => {
  const aead = { cipher: 'chacha20-poly1305', key: fill('key', 32), nonce: fill('nonce', 12) } as const;
  for (const wrong of [
    { ...aead, key: fill('key', 31) },
    { ...aead, nonce: fill('nonce', 13) },
  ]) {
    t.throws(() => nodePrimitives.seal(wrong, new Uint8Array(1), new Uint8Array(17)));
    t.throws(() => nodePrimitives.open(wrong, new Uint8Array(17), new Uint8Array(1)));
  }
});
