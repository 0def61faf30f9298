/** Values that no caller may pass, and that would otherwise become bytes which nobody can read back. */
import test from 'ava';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { decodeBand } from '../../../bands/format/band-file.ts';
import { openBandHeader } from '../../../bands/format/band-header.ts';
import { Bitmap } from '../../../bands/format/bitmap.ts';
import { u64be } from '../../../bands/format/bytes.ts';
import { CHUNK_BYTES } from '../../../bands/format/geometry.ts';
import { writeEntry } from '../../../bands/format/index-page.ts';
import { keySlotCodec } from '../../../bands/format/key-slot.ts';
import { manifestCodec } from '../../../bands/format/manifest.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { sealRecord } from '../../../bands/format/record.ts';
import { formatSessionId, nextSessionId, parseSessionId } from '../../../bands/format/session-id.ts';
import { fill, sameBytes } from '../../support/bytes.ts';
import { bandOf, chunkOf, contextOf, SALT, sealed } from './band-support.ts';
import { readVectors } from './vectors.ts';

test('the salt of an opened header is a copy, also when the file was read into a Buffer', (t) => {
  const file = Buffer.from(sealed(contextOf(), new Uint8Array(262_144)));
  const header = openBandHeader(contextOf(), file, { salt: SALT, fileBytes: file.length });
  file.fill(0); // the read buffer is used again
  sameBytes(t, header.salt, SALT);
});

test('a slot whose scrypt parameters RFC 7914 rules out (N < 2^(128·r/8)) is refused by the codec', (t) => {
  const text = readVectors<{ vector: { text: string } }>('key-slot').vector.text.replace('"logN": 10', '"logN": 16').replace('"r": 8', '"r": 1');
  t.throws(() => keySlotCodec.decode(new TextEncoder().encode(text)), { code: 'RECORD_CORRUPT' });
});

test('a salt or a domain id of another length is refused before a file is made that none can open', (t) => {
  t.throws(() => sealed(contextOf(), new Uint8Array(262_144), fill('salt', 20)), { instanceOf: RangeError });
  t.throws(() => sealed(contextOf({ domainId: new Uint8Array(15) }), new Uint8Array(262_144)), { instanceOf: RangeError });
});

test('both implementations refuse the keys and nonces that the interface does not allow', (t) => {
  const aead = { cipher: 'aes-256-gcm', key: fill('key', 32), nonce: fill('nonce', 12) } as const;
  const [plain, out] = [new Uint8Array(10), new Uint8Array(26)];
  for (const [by, primitives] of Object.entries({ node: nodePrimitives, noble: noblePrimitives })) {
    t.throws(() => primitives.seal({ ...aead, key: fill('key', 16) }, plain, out), undefined, `${by}: seals with a key of 16 bytes`);
    t.throws(() => primitives.seal({ ...aead, nonce: fill('nonce', 11) }, plain, out), undefined, `${by}: seals with a nonce of 11 bytes`);
    t.throws(() => primitives.encryptBlocks(fill('key', 16), new Uint8Array(16)), undefined, `${by}: names with a key of 16 bytes`);
    t.throws(() => primitives.hkdfExpand(fill('key', 31), plain, 32), undefined, `${by}: derives from a key of 31 bytes`);
  }
});

test('opening into too small an output, or with a key of another length, is the caller’s mistake and not damage', (t) => {
  const aead = { cipher: 'aes-256-gcm', key: fill('key', 32), nonce: fill('nonce', 12) } as const;
  const file = new Uint8Array(26);
  nodePrimitives.seal(aead, new Uint8Array(10), file);
  for (const [by, primitives] of Object.entries({ node: nodePrimitives, noble: noblePrimitives })) {
    t.throws(() => primitives.open(aead, file, new Uint8Array(5)), undefined, `${by}: output of 5 bytes`);
    t.throws(() => primitives.open({ ...aead, key: fill('key', 31) }, file, new Uint8Array(10)), undefined, `${by}: key of 31 bytes`);
  }
});

test('the next id is an id, and after the base, at the end of the year 9999 and with a fraction of a millisecond', (t) => {
  t.not(parseSessionId(nextSessionId(0, '99991231T235959.998Z').id), undefined);
  const now = Date.UTC(2026, 10, 21);
  t.true(nextSessionId(now + 0.5, formatSessionId(now)).id > formatSessionId(now), 'fraction');
  t.throws(() => nextSessionId(0, '99991231T235959.999Z'), { code: 'UNSUPPORTED' });
});

test('a base that is no session id is a mistake, not "no base"', (t) => {
  t.throws(() => nextSessionId(5, 'garbage'));
});

test('a manifest whose base is itself or newer is refused: following bases must end', (t) => {
  const { manifest } = readVectors<{ manifest: { text: string } }>('documents');
  for (const base of ['20261121T100000.123Z', '20261122T100000.000Z']) {
    const text = manifest.text.replace('20261120T100000.000Z', base);
    t.throws(() => manifestCodec.decode(new TextEncoder().encode(text)), { code: 'RECORD_CORRUPT' }, base);
  }
});

test('a bit number that is negative, fractional or no number is refused', (t) => {
  for (const bit of [-1, 0.5, Number.NaN]) t.throws(() => new Bitmap(8).set(bit), { instanceOf: RangeError }, `${bit}`);
});

test('an index entry of a length that 32 bits do not hold, or a salt that is too short, is refused', (t) => {
  const band = { salt: SALT, fileBytes: 1000, fingerprint: fill('fingerprint', 16), digest: fill('digest', 32) };
  for (const wrong of [
    { ...band, fileBytes: 2 ** 32 + 1000 },
    { ...band, salt: SALT.subarray(0, 20) },
    { ...band, salt: fill('salt', 28) },
  ]) {
    t.throws(() => writeEntry(new Uint8Array(80), 0, wrong), { instanceOf: RangeError });
  }
});

test('a negative number has no unsigned form', (t) => {
  t.throws(() => u64be(-1), { instanceOf: RangeError });
});

test('two places have two seals: a volume id of another length does not run into the place', (t) => {
  const [id, nonce] = [fill('volume', 16), fill('nonce', 24)];
  const seal = (volumeId: Uint8Array, at: string): Uint8Array =>
    sealRecord(fill('key', 32), { kind: 'labels', volumeId, at }, { nonce, plain: SALT });
  t.throws(() => seal(bandOf(id, Uint8Array.of(0x61)), 'b'), { instanceOf: RangeError });
});

test('an output that is no whole band is the caller’s mistake, not damage and not success', (t) => {
  const files = {
    zeros: sealed(contextOf(), new Uint8Array(262_144)),
    compressed: sealed(contextOf(), bandOf(chunkOf('text', 'a'), chunkOf('text', 'b'))),
  };
  for (const [what, file] of Object.entries(files)) {
    const room = { salt: SALT, scratch: new Uint8Array(CHUNK_BYTES), out: new Uint8Array(200_000) };
    t.throws(() => decodeBand(contextOf(), file, room), { instanceOf: RangeError }, what);
  }
});
