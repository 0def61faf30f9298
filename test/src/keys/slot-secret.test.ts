/** Secrets as people have them, and as scrypt gets them. */
import test from 'ava';
import { encodeRecoveryPhrase } from '../../../bands/format/recovery-phrase.ts';
import { SlotSecret } from '../../../src/keys/slot-secret.ts';
import { encodeText } from '../../bands/format/json-suite.ts';
import { readVectors } from '../../bands/format/vectors.ts';
import { hex, sameBytes } from '../../support/bytes.ts';

const { vectors } = readVectors<{ vectors: { secret: string }[] }>('bound-slot');

test('what people have becomes the bytes that scrypt gets; a newline at the end of a key file is not part of it', (t) => {
  const [passphrase, keyFile, phrase] = vectors.map(({ secret }) => hex(secret));
  using typed = SlotSecret.of({ passphrase: 'correct horse battery staple' });
  sameBytes(t, typed.bytes, passphrase ?? new Uint8Array(0));
  for (const end of ['', '\n', '\r\n']) {
    const content = Uint8Array.from([...(keyFile ?? []), ...encodeText(end)]);
    const secret = SlotSecret.of({ keyFile: content });
    sameBytes(t, secret.bytes, keyFile ?? new Uint8Array(0));
    secret[Symbol.dispose]();
    t.true(
      secret.bytes.every((byte) => byte === 0),
      'and is wiped',
    );
    t.false(
      content.subarray(0, 32).every((byte) => byte === 0),
      'but not the bytes of whoever gave it',
    );
  }
  using words = SlotSecret.of({ recoveryPhrase: encodeRecoveryPhrase(phrase ?? new Uint8Array(0)) });
  sameBytes(t, words.bytes, phrase ?? new Uint8Array(0));
  for (const length of [0, 31, 65_537]) t.throws(() => SlotSecret.of({ keyFile: new Uint8Array(length).fill(1) }), { code: 'WRONG_KEY' });
  t.throws(() => SlotSecret.of({ keyFile: encodeText(`${'k'.repeat(31)}\n`) }), { code: 'WRONG_KEY' });
});
