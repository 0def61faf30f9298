/**
 * An exported volume key: a JSON file that opens one volume of one repository and nothing else. FORMAT.md, "Exported
 * volume key". It is not sealed: whoever has the file has the volume.
 */
import { toHex } from './bytes.ts';
import { requireChecksum, withChecksum } from './checked-json.ts';
import { type JsonCodec, jsonCodec } from './json-record.ts';
import { ID_BYTES } from './keys.ts';
import { DIGEST_BYTES } from './manifest.ts';
import { KEY_BYTES } from './primitives.ts';

const FORMAT = 'timeband-volume-key';

export interface VolumeKey {
  /** SHA-256 of the repository.json of its repository: no other repository, and no other cipher. */
  readonly configDigest: Uint8Array;
  readonly volumeId: Uint8Array;
  /** 32 bytes; `wipeKeys` overwrites them. */
  readonly key: Uint8Array;
}

function volumeKeyToJson({ configDigest, volumeId, key }: VolumeKey): { readonly checksum: string } {
  return withChecksum({ format: FORMAT, version: 1, repository: toHex(configDigest), volume: toHex(volumeId), key: toHex(key) });
}

export const volumeKeyCodec: JsonCodec<VolumeKey> = jsonCodec('volume key', {
  indent: 2,
  toJson: volumeKeyToJson,
  fromJson(fields) {
    fields.constant('format', FORMAT);
    fields.constant('version', 1);
    const volumeKey: VolumeKey = {
      configDigest: fields.hex('repository', DIGEST_BYTES),
      volumeId: fields.hex('volume', ID_BYTES),
      key: fields.hex('key', KEY_BYTES),
    };
    requireChecksum('volume key', fields, volumeKeyToJson(volumeKey));
    return volumeKey;
  },
});
