import test from 'ava';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { deriveDomain, deriveDomainKey, deriveVolumeKey, deriveVolumeKeys, ID_BYTES, inDomain, wipeKeys } from '../../../bands/format/keys.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { fill, hex, sameBytes } from '../../support/bytes.ts';
import { readVectors } from './vectors.ts';

interface KeyVector {
  readonly name: string;
  readonly masterKey: string;
  readonly volumeId: string;
  readonly volumeKey: string;
  readonly recordsKey: string;
  readonly namesKey: string;
  readonly bandKey: string;
  readonly fingerprintKey: string;
}

interface DomainVector {
  readonly name: string;
  readonly masterKey: string;
  readonly domainId: string;
  readonly bandKey: string;
}

const { vectors, domains } = readVectors<{ vectors: KeyVector[]; domains: DomainVector[] }>('keys');

for (const vector of domains) {
  test(`the key domain of the vector "${vector.name}" comes out, and its volumes keep all keys but that of their bands`, (t) => {
    const master = hex(vector.masterKey);
    const domain = deriveDomain(master, vector.name);
    sameBytes(t, domain.id, hex(vector.domainId), 'id');
    sameBytes(t, domain.bandKey, hex(vector.bandKey), 'band key');
    sameBytes(t, deriveDomainKey(master, domain.id), domain.bandKey, 'by its id');
    const id = fill('volume', ID_BYTES);
    const own = deriveVolumeKeys(deriveVolumeKey(master, id), id);
    const keys = inDomain(deriveVolumeKeys(deriveVolumeKey(master, id), id), domain);
    sameBytes(t, keys.bandKey, domain.bandKey);
    sameBytes(t, keys.domainId, domain.id);
    for (const name of ['recordsKey', 'namesKey', 'fingerprintKey'] as const) sameBytes(t, keys[name], own[name], name);
    t.notDeepEqual(own.bandKey, domain.bandKey);
  });
}

for (const vector of vectors) {
  test(`the keys of the vector "${vector.name}" come out`, (t) => {
    const id = hex(vector.volumeId);
    const volumeKey = deriveVolumeKey(hex(vector.masterKey), id);
    const keys = deriveVolumeKeys(volumeKey, id);
    sameBytes(t, volumeKey, hex(vector.volumeKey), 'volume key');
    sameBytes(t, keys.recordsKey, hex(vector.recordsKey), 'records key');
    sameBytes(t, keys.namesKey, hex(vector.namesKey), 'names key');
    sameBytes(t, keys.bandKey, hex(vector.bandKey), 'band key');
    sameBytes(t, keys.fingerprintKey, hex(vector.fingerprintKey), 'fingerprint key');
    sameBytes(t, keys.domainId, id, 'domain');
  });

  test(`both implementations of HKDF derive the vector "${vector.name}" from its labels`, (t) => {
    const info = (label: string): Uint8Array => Buffer.concat([Buffer.from(`timeband/v1/${label}\0`), hex(vector.volumeId)]);
    for (const { hkdfExpand } of [nodePrimitives, noblePrimitives]) {
      sameBytes(t, hkdfExpand(hex(vector.masterKey), info('volume'), 32), hex(vector.volumeKey));
      sameBytes(t, hkdfExpand(hex(vector.volumeKey), info('records'), 32), hex(vector.recordsKey));
      sameBytes(t, hkdfExpand(hex(vector.volumeKey), info('names'), 32), hex(vector.namesKey));
      sameBytes(t, hkdfExpand(hex(vector.volumeKey), info('bands'), 32), hex(vector.bandKey));
      sameBytes(t, hkdfExpand(hex(vector.volumeKey), info('fingerprints'), 32), hex(vector.fingerprintKey));
    }
  });
}

test('no two keys of two volumes and two repositories are the same', (t) => {
  const found = new Set<string>();
  for (const master of ['master 1', 'master 2']) {
    for (const volume of ['volume 1', 'volume 2']) {
      const id = fill(volume, ID_BYTES);
      const volumeKey = deriveVolumeKey(fill(master, 32), id);
      const keys = deriveVolumeKeys(volumeKey, id);
      for (const key of [volumeKey, keys.recordsKey, keys.namesKey, keys.bandKey, keys.fingerprintKey]) found.add(Buffer.from(key).toString('hex'));
    }
  }
  t.is(found.size, 20);
});

test('deriving leaves the key it starts from as it was', (t) => {
  const master = fill('master', 32);
  deriveVolumeKeys(deriveVolumeKey(master, fill('volume', ID_BYTES)), fill('volume', ID_BYTES));
  sameBytes(t, master, fill('master', 32));
});

test('wiped keys hold zeros', (t) => {
  const [a, b] = [fill('a', 32), fill('b', 32)];
  wipeKeys(a, b);
  sameBytes(t, a, new Uint8Array(32));
  sameBytes(t, b, new Uint8Array(32));
});
