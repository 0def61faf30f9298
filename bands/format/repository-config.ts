/** repository.json: public, and bound into every key slot by its SHA-256. FORMAT.md, "repository.json". */

import { toHex } from './bytes.ts';
import { type JsonCodec, jsonCodec } from './json-record.ts';
import { ID_BYTES } from './keys.ts';
import { CIPHER_NAMES, type CipherName } from './primitives.ts';

export const REPOSITORY_VERSION = 1;

export interface RepositoryConfig {
  /** 16 bytes. */
  readonly id: Uint8Array;
  readonly cipher: CipherName;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
}

export const repositoryConfigCodec: JsonCodec<RepositoryConfig> = jsonCodec('repository.json', {
  indent: 2,
  toJson: (config) => ({
    format: 'timeband-repository',
    version: REPOSITORY_VERSION,
    id: toHex(config.id),
    cipher: config.cipher,
    created: new Date(config.createdMs).toISOString(),
  }),
  fromJson(fields) {
    fields.constant('format', 'timeband-repository');
    fields.constant('version', REPOSITORY_VERSION);
    return { id: fields.hex('id', ID_BYTES), cipher: fields.oneOf('cipher', CIPHER_NAMES), createdMs: fields.time('created') };
  },
});
