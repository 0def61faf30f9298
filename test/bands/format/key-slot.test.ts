import { scryptSync } from 'node:crypto';
import { scrypt as nobleScrypt } from '@noble/hashes/scrypt.js';
import test from 'ava';
import fc from 'fast-check';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import {
  DEFAULT_SCRYPT,
  type KeySlot,
  keySlotCodec,
  SCRYPT_SALT_BYTES,
  SLOT_ID_BYTES,
  scryptMemoryBytes,
  unwrapMasterKey,
  wrapMasterKey,
} from '../../../bands/format/key-slot.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { fill, flipBit, hex, isSame, sameBytes } from '../../support/bytes.ts';
import { anyBytes, anyTime, testJsonCodec } from './json-suite.ts';
import { SCRYPT_VECTORS } from './published-vectors.ts';
import { type FaultyText, readVectors } from './vectors.ts';

interface SlotVector {
  readonly passphrase: string;
  readonly config: string;
  readonly configDigest: string;
  readonly slotId: string;
  readonly createdMs: number;
  readonly salt: string;
  readonly slotKey: string;
  readonly nonce: string;
  readonly masterKey: string;
  readonly wrapped: string;
  readonly text: string;
}

const { vector, faults } = readVectors<{ vector: SlotVector; faults: FaultyText[] }>('key-slot');
const slotKey = hex(vector.slotKey);
const wrapped = hex(vector.wrapped);
const binding = {
  version: 1,
  kind: 'passphrase',
  configDigest: hex(vector.configDigest),
  slotId: hex(vector.slotId),
  nonce: hex(vector.nonce),
} as const;

test('scrypt gives the keys of RFC 7914, section 12, in both libraries', (t) => {
  for (const { passphrase, salt, logN, r, p, output } of SCRYPT_VECTORS) {
    const maxmem = scryptMemoryBytes({ logN, r, p }) + 2 ** 20;
    sameBytes(t, scryptSync(passphrase, salt, 64, { N: 2 ** logN, r, p, maxmem }), hex(output), 'node');
    sameBytes(t, nobleScrypt(passphrase, salt, { N: 2 ** logN, r, p, dkLen: 64 }), hex(output), 'noble');
  }
});

test('the passphrase of the vector leads to its slot key', (t) => {
  const { scrypt, salt } = keySlotCodec.decode(new TextEncoder().encode(vector.text));
  const options = { N: 2 ** scrypt.logN, r: scrypt.r, p: scrypt.p };
  sameBytes(t, scryptSync(vector.passphrase, salt, 32, { ...options, maxmem: 2 ** 25 }), slotKey);
  sameBytes(t, nobleScrypt(vector.passphrase, salt, { ...options, dkLen: 32 }), slotKey);
});

test('the config digest of the vector is the SHA-256 of repository.json', (t) => {
  const config = new TextEncoder().encode(vector.config);
  for (const { sha256 } of [nodePrimitives, noblePrimitives]) sameBytes(t, sha256(config), binding.configDigest);
});

test('the master key of the vector is wrapped to its bytes, and unwrapped', (t) => {
  sameBytes(t, wrapMasterKey(slotKey, binding, hex(vector.masterKey)), wrapped);
  sameBytes(t, unwrapMasterKey(slotKey, binding, wrapped) ?? new Uint8Array(0), hex(vector.masterKey));
});

test('a master key is not unwrapped with any bit of key, binding or wrap turned', (t) => {
  const opens = (key = slotKey, change: Partial<typeof binding> = {}, sealed = wrapped): boolean =>
    unwrapMasterKey(key, { ...binding, ...change }, sealed) !== undefined;
  t.true(opens());
  for (let bit = 0; bit < slotKey.length * 8; bit++) if (opens(flipBit(slotKey, bit))) t.fail(`slot key, bit ${bit}`);
  for (let bit = 0; bit < wrapped.length * 8; bit++) if (opens(slotKey, {}, flipBit(wrapped, bit))) t.fail(`wrap, bit ${bit}`);
  for (const name of ['configDigest', 'slotId', 'nonce'] as const) {
    for (let bit = 0; bit < binding[name].length * 8; bit++)
      if (opens(slotKey, { [name]: flipBit(binding[name], bit) })) t.fail(`${name}, bit ${bit}`);
  }
});

test('a wrap of any other length is not unwrapped', (t) => {
  for (let end = 0; end < wrapped.length; end++) t.is(unwrapMasterKey(slotKey, binding, wrapped.subarray(0, end)), undefined, `${end} bytes`);
  t.is(unwrapMasterKey(slotKey, binding, Uint8Array.from([...wrapped, 0])), undefined);
});

test('any master key comes back from its wrap', (t) => {
  const parts = fc.record({
    version: fc.constant(1 as const),
    kind: fc.constant('passphrase' as const),
    configDigest: anyBytes(32),
    slotId: anyBytes(SLOT_ID_BYTES),
    nonce: anyBytes(24),
  });
  const comesBack = (key: Uint8Array, place: typeof binding, master: Uint8Array): boolean => {
    const sealed = wrapMasterKey(key, place, master);
    const back = unwrapMasterKey(key, place, sealed);
    return sealed.length === 48 && back !== undefined && isSame(back, master);
  };
  fc.assert(fc.property(anyBytes(32), parts, anyBytes(32), comesBack));
  t.pass();
});

test('the memory of scrypt is 128 · N · r bytes', (t) => {
  t.is(scryptMemoryBytes(DEFAULT_SCRYPT), 128 * 2 ** 20);
  t.is(scryptMemoryBytes({ logN: 10, r: 8, p: 1 }), 2 ** 20);
});

const slot: KeySlot = {
  version: 1,
  id: hex(vector.slotId),
  kind: 'passphrase',
  createdMs: vector.createdMs,
  scrypt: { logN: 10, r: 8, p: 1 },
  salt: hex(vector.salt),
  nonce: hex(vector.nonce),
  wrapped: hex(vector.wrapped),
};

test('a slot may ask for 2 GiB of memory and no more', (t) => {
  for (const scrypt of [{ logN: 21, r: 8, p: 1 }, { logN: 19, r: 32, p: 16 }, { logN: 10, r: 32, p: 16 }, DEFAULT_SCRYPT]) {
    t.deepEqual(keySlotCodec.decode(keySlotCodec.encode({ ...slot, scrypt })).scrypt, scrypt);
  }
  for (const scrypt of [
    { logN: 21, r: 9, p: 1 },
    { logN: 20, r: 17, p: 1 },
    { logN: 20, r: 32, p: 1 },
  ]) {
    t.throws(() => keySlotCodec.decode(keySlotCodec.encode({ ...slot, scrypt })), { code: 'RECORD_CORRUPT' });
  }
});

testJsonCodec<KeySlot>('key slot of version 1', {
  codec: keySlotCodec,
  text: vector.text,
  faults,
  indent: 2,
  value: slot,
  values: fc.record({
    version: fc.constant(1 as const),
    id: anyBytes(SLOT_ID_BYTES),
    kind: fc.constant('passphrase' as const),
    createdMs: anyTime,
    scrypt: fc.record({ logN: fc.integer({ min: 10, max: 18 }), r: fc.integer({ min: 8, max: 32 }), p: fc.integer({ min: 1, max: 16 }) }),
    salt: fc.constant(fill('salt', SCRYPT_SALT_BYTES)),
    nonce: anyBytes(24),
    wrapped: anyBytes(48),
  }),
});
