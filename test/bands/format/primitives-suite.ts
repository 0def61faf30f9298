/** The published vectors that every implementation of the primitives must give. */
import test from 'ava';
import { CIPHER_NAMES, type Primitives, TAG_BYTES } from '../../../bands/format/primitives.ts';
import { fill, flipBit, hex, sameBytes, unaligned } from '../../support/bytes.ts';
import { AEAD_VECTORS, ECB_VECTOR, HKDF_VECTORS, RFC_8439, SHA256_VECTORS } from './published-vectors.ts';

export function testPrimitives(name: string, primitives: Primitives): void {
  const { sha256, hkdfExpand, crc32, encryptBlocks, decryptBlocks } = primitives;
  const seal = (aead: Parameters<Primitives['seal']>[0], plain: Uint8Array): Uint8Array => {
    const out = new Uint8Array(plain.length + TAG_BYTES);
    primitives.seal(aead, plain, out);
    return out;
  };

  test(`${name}: SHA-256 gives the digests of FIPS 180-4's examples`, (t) => {
    for (const { text, digest } of SHA256_VECTORS) sameBytes(t, sha256(new TextEncoder().encode(text)), hex(digest));
  });

  test(`${name}: HKDF-Expand gives the keys of RFC 5869, appendix A`, (t) => {
    for (const { key, info, output } of HKDF_VECTORS) sameBytes(t, hkdfExpand(hex(key), hex(info), output.length / 2), hex(output));
  });

  test(`${name}: HKDF-Expand gives 255 blocks and refuses more`, (t) => {
    const key = fill('key', 32);
    const most = hkdfExpand(key, new Uint8Array(0), 255 * 32);
    t.is(most.length, 255 * 32);
    sameBytes(t, hkdfExpand(key, new Uint8Array(0), 33), most.subarray(0, 33));
    t.throws(() => hkdfExpand(key, new Uint8Array(0), 255 * 32 + 1));
  });

  test(`${name}: AES-256-ECB gives the blocks of SP 800-38A, F.1.5 and F.1.6`, (t) => {
    const [key, plain, sealed] = [hex(ECB_VECTOR.key), hex(ECB_VECTOR.plain), hex(ECB_VECTOR.sealed)];
    sameBytes(t, encryptBlocks(key, plain), sealed);
    sameBytes(t, decryptBlocks(key, sealed), plain);
    sameBytes(t, encryptBlocks(unaligned(key), unaligned(plain)), sealed);
  });

  test(`${name}: no blocks give no blocks, and part of a block is refused`, (t) => {
    const key = fill('key', 32);
    t.is(encryptBlocks(key, new Uint8Array(0)).length, 0);
    t.is(decryptBlocks(key, new Uint8Array(0)).length, 0);
    t.throws(() => encryptBlocks(key, new Uint8Array(17)));
    t.throws(() => decryptBlocks(key, new Uint8Array(15)));
  });

  test(`${name}: the fingerprint of nothing under a key of zeros is the tag of GCM test case 13`, (t) => {
    sameBytes(t, primitives.fingerprint(new Uint8Array(32), new Uint8Array(0)), hex('530f8afbc74536b9a963b4f1c4cb738b'));
    t.throws(() => primitives.fingerprint(new Uint8Array(16), new Uint8Array(0)), { instanceOf: RangeError });
  });

  test(`${name}: a fingerprint changes with every bit of the data, and with its length`, (t) => {
    const [key, data] = [fill('key', 32), fill('data', 100)];
    const print = primitives.fingerprint(key, data);
    for (let bit = 0; bit < data.length * 8; bit++) t.notDeepEqual(primitives.fingerprint(key, flipBit(data, bit)), print);
    t.notDeepEqual(
      primitives.fingerprint(
        key,
        new Uint8Array(101).fill(0).map((_, i) => data[i] ?? 0),
      ),
      print,
    );
  });

  test(`${name}: CRC-32 gives its check value`, (t) => {
    t.is(crc32(new TextEncoder().encode('123456789')), 0xcbf4_3926);
    t.is(crc32(new Uint8Array(0)), 0);
  });

  for (const { title, cipher, key, nonce, plain, sealed } of AEAD_VECTORS) {
    test(`${name}: ${title} is sealed and opened`, (t) => {
      const aead = { cipher, key: hex(key), nonce: hex(nonce) };
      sameBytes(t, seal(aead, hex(plain)), hex(sealed), 'sealed');
      const out = new Uint8Array(plain.length / 2);
      t.true(primitives.open(aead, hex(sealed), out));
      sameBytes(t, out, hex(plain), 'opened');
    });
  }

  test(`${name}: ChaCha20-Poly1305 gives the ciphertext of RFC 8439, 2.8.2, under a tag that binds no associated data`, (t) => {
    const sealed = seal({ cipher: 'chacha20-poly1305', key: hex(RFC_8439.key), nonce: hex(RFC_8439.nonce) }, new TextEncoder().encode(RFC_8439.text));
    sameBytes(t, sealed.subarray(0, -TAG_BYTES), hex(RFC_8439.sealed), 'ciphertext');
    t.not(Buffer.from(sealed.subarray(-TAG_BYTES)).toString('hex'), RFC_8439.tag);
  });

  for (const cipher of CIPHER_NAMES) {
    const aead = { cipher, key: fill('key', 32), nonce: fill('nonce', 12) };
    const plain = fill('plain', 50);
    const sealed = seal(aead, plain);
    const opens = (input: Uint8Array, other = aead): boolean => primitives.open(other, input, new Uint8Array(Math.max(0, input.length - TAG_BYTES)));

    test(`${name}: ${cipher} opens nothing in which a bit of text, tag, key or nonce was turned`, (t) => {
      t.true(opens(sealed));
      for (let bit = 0; bit < sealed.length * 8; bit++) if (opens(flipBit(sealed, bit))) t.fail(`bit ${bit} of the sealed bytes`);
      for (let bit = 0; bit < 256; bit++) if (opens(sealed, { ...aead, key: flipBit(aead.key, bit) })) t.fail(`bit ${bit} of the key`);
      for (let bit = 0; bit < 96; bit++) if (opens(sealed, { ...aead, nonce: flipBit(aead.nonce, bit) })) t.fail(`bit ${bit} of the nonce`);
    });

    test(`${name}: ${cipher} opens nothing of another length`, (t) => {
      for (let end = 0; end < sealed.length; end++) t.false(opens(sealed.subarray(0, end)), `${end} bytes`);
      t.false(opens(Uint8Array.from([...sealed, 0])));
    });

    test(`${name}: ${cipher} works on views at odd addresses and on Buffers, and leaves its inputs alone`, (t) => {
      const odd = { cipher, key: unaligned(aead.key), nonce: unaligned(aead.nonce) };
      const room = new Uint8Array(sealed.length + 2);
      primitives.seal(odd, unaligned(plain), room.subarray(1, -1));
      sameBytes(t, room, Uint8Array.from([0, ...sealed, 0]), 'sealed into a view');
      const out = Buffer.alloc(plain.length);
      t.true(primitives.open({ cipher, key: Buffer.from(aead.key), nonce: Buffer.from(aead.nonce) }, Buffer.from(sealed), out));
      sameBytes(t, out, plain, 'opened into a Buffer');
      sameBytes(t, odd.key, fill('key', 32), 'key');
      sameBytes(t, odd.nonce, fill('nonce', 12), 'nonce');
    });
  }
}
