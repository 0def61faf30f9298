/** Key slots of version 2, exported volume keys and recovery phrases, against vectors that share no code with them. */
import { scryptSync } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import {
  type KeySlot,
  keySlotCodec,
  SCRYPT_SALT_BYTES,
  SLOT_ID_BYTES,
  SLOT_KINDS,
  unwrapMasterKey,
  wrapMasterKey,
} from '../../../bands/format/key-slot.ts';
import { decodeRecoveryPhrase, encodeRecoveryPhrase, PHRASE_ENTROPY_BYTES } from '../../../bands/format/recovery-phrase.ts';
import { type VolumeKey, volumeKeyCodec } from '../../../bands/format/volume-key.ts';
import { fill, flipBit, hex, isSame, sameBytes } from '../../support/bytes.ts';
import { anyBytes, anyTime, encodeText, testJsonCodec } from './json-suite.ts';
import { type FaultyText, readVectors } from './vectors.ts';

interface SlotVector {
  readonly kind: KeySlot['kind'];
  readonly secret: string;
  readonly slotId: string;
  readonly createdMs: number;
  readonly salt: string;
  readonly slotKey: string;
  readonly nonce: string;
  readonly wrapped: string;
  readonly text: string;
}

const slots = readVectors<{ configDigest: string; masterKey: string; vectors: SlotVector[]; faults: FaultyText[] }>('bound-slot');
const configDigest = hex(slots.configDigest);

function slotOf(vector: SlotVector): Extract<KeySlot, { version: 2 }> {
  const { kind, createdMs } = vector;
  const [id, salt, nonce, wrapped] = [hex(vector.slotId), hex(vector.salt), hex(vector.nonce), hex(vector.wrapped)];
  return { version: 2, id, kind, createdMs, configDigest, scrypt: { logN: 10, r: 8, p: 1 }, salt, nonce, wrapped };
}

function bindingOf({ version, kind, id: slotId, nonce, configDigest: digest }: Extract<KeySlot, { version: 2 }>) {
  return { version, kind, slotId, nonce, configDigest: digest };
}

test('there is a vector for each kind of slot, and its secret leads to the master key', (t) => {
  t.deepEqual(
    slots.vectors.map(({ kind }) => kind),
    [...SLOT_KINDS],
  );
  for (const vector of slots.vectors) {
    const slot = slotOf(vector);
    t.deepEqual(keySlotCodec.decode(encodeText(vector.text)), slot);
    const slotKey = scryptSync(hex(vector.secret), slot.salt, 32, { N: 1024, r: 8, p: 1 });
    sameBytes(t, slotKey, hex(vector.slotKey), vector.kind);
    sameBytes(t, unwrapMasterKey(slotKey, bindingOf(slot), slot.wrapped) ?? new Uint8Array(0), hex(slots.masterKey), vector.kind);
    sameBytes(t, wrapMasterKey(slotKey, bindingOf(slot), hex(slots.masterKey)), slot.wrapped, vector.kind);
  }
});

test('a slot is bound to its kind, its id, its repository and its version', (t) => {
  for (const vector of slots.vectors) {
    const slot = slotOf(vector);
    const opens = (change: object): boolean => unwrapMasterKey(hex(vector.slotKey), { ...bindingOf(slot), ...change }, slot.wrapped) !== undefined;
    t.true(opens({}));
    for (const kind of SLOT_KINDS) if (kind !== vector.kind) t.false(opens({ kind }));
    t.false(opens({ version: 1 }));
    t.false(opens({ slotId: flipBit(slot.id, 0) }));
    t.false(opens({ configDigest: flipBit(configDigest, 255) }));
  }
});

test('a bit that turns anywhere in a slot file is noticed without any secret', (t) => {
  for (const { text } of slots.vectors) {
    const bytes = encodeText(text);
    for (let at = 0; at < bytes.length; at++)
      t.throws(() => keySlotCodec.decode(flipBit(bytes, at * 8 + (at % 8))), { code: 'RECORD_CORRUPT' }, `byte ${at}`);
  }
});

const phrases = readVectors<{
  vectors: { entropy: string; phrase: string }[];
  faults: { name: string; phrase: string; error: string }[];
}>('recovery-phrase');

test('recovery phrases are those of BIP-39, however they are typed', (t) => {
  for (const { entropy, phrase } of phrases.vectors) {
    t.is(encodeRecoveryPhrase(hex(entropy)), phrase);
    for (const typed of [phrase, phrase.toUpperCase(), `  ${phrase.replaceAll(' ', '\n\t ')}\n`])
      sameBytes(t, decodeRecoveryPhrase(typed), hex(entropy));
  }
  for (const { name, phrase, error } of phrases.faults) t.throws(() => decodeRecoveryPhrase(phrase), { code: error }, name);
  fc.assert(fc.property(anyBytes(PHRASE_ENTROPY_BYTES), (entropy) => isSame(decodeRecoveryPhrase(encodeRecoveryPhrase(entropy)), entropy)));
});

test('typing errors are told apart by their places, and no word is repeated', (t) => {
  const words = (phrases.vectors[4]?.phrase ?? '').split(' ');
  const messageOf = (typed: readonly string[]): string => t.throws(() => decodeRecoveryPhrase(typed.join(' ')))?.message ?? '';
  t.regex(messageOf(words.with(6, 'privatt')), /word 7 is not in the list/);
  t.regex(messageOf(words.with(6, 'privatt').with(23, 'lenght')), /words 7, 24 are not in the list/);
  t.regex(messageOf(words.slice(1)), /it has 23 words/);
  t.regex(messageOf([words[1] ?? '', words[0] ?? '', ...words.slice(2)]), /checksum is wrong/);
  t.false(messageOf(words.with(6, 'privatt')).includes('privatt'));
});

testJsonCodec<KeySlot>('key slot of version 2', {
  codec: keySlotCodec,
  text: slots.vectors.at(-1)?.text ?? '',
  faults: slots.faults,
  indent: 2,
  value: slotOf(slots.vectors.at(-1) as SlotVector),
  values: fc.record({
    version: fc.constant(2 as const),
    id: anyBytes(SLOT_ID_BYTES),
    kind: fc.constantFrom(...SLOT_KINDS),
    createdMs: anyTime,
    configDigest: anyBytes(32),
    scrypt: fc.record({ logN: fc.integer({ min: 10, max: 18 }), r: fc.integer({ min: 8, max: 32 }), p: fc.integer({ min: 1, max: 16 }) }),
    salt: fc.constant(fill('salt', SCRYPT_SALT_BYTES)),
    nonce: anyBytes(24),
    wrapped: anyBytes(48),
  }),
});

const volume = readVectors<{ vector: { configDigest: string; volumeId: string; key: string; text: string }; faults: FaultyText[] }>('volume-key');

testJsonCodec<VolumeKey>('volume key', {
  codec: volumeKeyCodec,
  text: volume.vector.text,
  faults: volume.faults,
  indent: 2,
  value: { configDigest: hex(volume.vector.configDigest), volumeId: hex(volume.vector.volumeId), key: hex(volume.vector.key) },
  values: fc.record({ configDigest: anyBytes(32), volumeId: anyBytes(16), key: anyBytes(32) }),
});
