import test from 'ava';
import fc from 'fast-check';
import { ID_BYTES } from '../../../bands/format/keys.ts';
import { CIPHER_NAMES } from '../../../bands/format/primitives.ts';
import { type RepositoryConfig, repositoryConfigCodec } from '../../../bands/format/repository-config.ts';
import { fill } from '../../support/bytes.ts';
import { anyBytes, anyTime, encodeText, testJsonCodec } from './json-suite.ts';
import { type FaultyText, readVectors } from './vectors.ts';

const { repository } = readVectors<{ repository: { text: string; faults: FaultyText[] } }>('documents');

testJsonCodec<RepositoryConfig>('repository.json', {
  codec: repositoryConfigCodec,
  ...repository,
  indent: 2,
  value: { id: fill('repository', ID_BYTES), cipher: 'aes-256-gcm', createdMs: 1_795_255_200_123 },
  values: fc.record({ id: anyBytes(ID_BYTES), cipher: fc.constantFrom(...CIPHER_NAMES), createdMs: anyTime }),
});

test('repository.json names its cipher, and a cipher of another repository changes its bytes', (t) => {
  const [gcm, chacha] = CIPHER_NAMES.map((cipher) => repositoryConfigCodec.encode({ id: fill('repository', ID_BYTES), cipher, createdMs: 0 }));
  t.truthy(gcm);
  t.notDeepEqual(gcm, chacha);
});

test('repository.json is read from a Buffer too', (t) => {
  t.is(repositoryConfigCodec.decode(Buffer.from(encodeText(repository.text))).cipher, 'aes-256-gcm');
});

test('repository.json with Windows line ends is refused: its digest is bound into every key slot', (t) => {
  t.throws(() => repositoryConfigCodec.decode(encodeText(repository.text.replaceAll('\n', '\r\n'))), { code: 'RECORD_CORRUPT' });
});
