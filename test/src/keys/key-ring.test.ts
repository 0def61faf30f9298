/** The owner of a repository's keys. */
import test from 'ava';
import { KeyRing } from '../../../src/keys/key-ring.ts';

const VOLUME = new Uint8Array(16).fill(1);

test('after it is wiped a ring gives no keys: those of zeros would open what is sealed with them to everybody', (t) => {
  const masterKey = new Uint8Array(32).fill(7);
  for (const grant of [{ masterKey }, { volumeKey: { configDigest: new Uint8Array(32), volumeId: VOLUME, key: masterKey } }]) {
    const ring = new KeyRing(grant);
    const keys = ring.keysOf(VOLUME);
    t.is(keys.recordsKey.length, 32);
    ring.wipe();
    t.throws(() => keys.recordsKey, { instanceOf: TypeError });
    t.throws(() => ring.keysOf(VOLUME).recordsKey, { instanceOf: TypeError });
    t.throws(() => new KeyRing(grant).equals(ring), { instanceOf: TypeError });
    t.throws(() => ring.copyVolumeKey(VOLUME), { instanceOf: TypeError });
    t.throws(() => ring.copyGrant(), { instanceOf: TypeError });
  }
  const other = new KeyRing({ masterKey });
  other.wipe();
  t.throws(() => other.keysOf(VOLUME), { instanceOf: TypeError }, 'keys that nobody asked for before');
  t.true(
    masterKey.every((byte) => byte === 7),
    'whoever gave it owns it',
  );
});
