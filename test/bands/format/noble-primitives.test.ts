import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import test from 'ava';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { hex, sameBytes } from '../../support/bytes.ts';
import { testPrimitives } from './primitives-suite.ts';
import { RFC_8439, XCHACHA_DRAFT } from './published-vectors.ts';

testPrimitives('noble', noblePrimitives);

// The interface has no associated data; these anchor the library itself where the standard's vectors have some.
for (const { title, cipher, vector } of [
  { title: 'ChaCha20-Poly1305 gives the vector of RFC 8439, 2.8.2', cipher: chacha20poly1305, vector: RFC_8439 },
  { title: 'XChaCha20-Poly1305 gives the vector of its draft, A.3.1', cipher: xchacha20poly1305, vector: XCHACHA_DRAFT },
]) {
  test(`noble: ${title}, associated data included`, (t) => {
    const aead = () => cipher(hex(vector.key), hex(vector.nonce), hex(vector.data));
    const plain = new TextEncoder().encode(vector.text);
    sameBytes(t, aead().encrypt(plain), hex(vector.sealed + vector.tag), 'sealed');
    sameBytes(t, aead().decrypt(hex(vector.sealed + vector.tag)), plain, 'opened');
    t.throws(() => cipher(hex(vector.key), hex(vector.nonce)).decrypt(hex(vector.sealed + vector.tag)), undefined, 'without the associated data');
  });
}
