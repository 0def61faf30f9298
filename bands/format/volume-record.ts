/** A volume's record: its name and band size, sealed. FORMAT.md, "Volume". */
import { TimebandError } from '../errors.ts';
import { toHex } from './bytes.ts';
import { isBandBytes } from './geometry.ts';
import { type Fields, type JsonCodec, jsonCodec } from './json-record.ts';
import { ID_BYTES, type KeyDomain } from './keys.ts';
import { type Padding, readPadding } from './padding.ts';
import { KEY_BYTES } from './primitives.ts';
import { SESSION_ID_PATTERN } from './session-id.ts';

export interface VolumeRecord {
  readonly name: string;
  readonly bandBytes: number;
  readonly createdMs: number;
  readonly note: string;
  /** How its band files are padded, all of them; undefined: not at all. */
  readonly padding: Padding | undefined;
  /** The key domain that the volume was put into when it was made; undefined: its own. */
  readonly domain: KeyDomain | undefined;
}

export const MAX_NAME_BYTES = 255;
const DOMAIN_NAME = /^[\p{L}\p{N}][\p{L}\p{N}._-]{0,99}$/u;

/** Why `name` cannot name a volume, or undefined if it can. Each part of it is a folder in a mount. */
export function volumeNameProblem(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (new TextEncoder().encode(name).length > MAX_NAME_BYTES) return `it is longer than ${MAX_NAME_BYTES} bytes`;
  if (/[\p{Cc}\p{Cs}=@]/u.test(name)) return 'it holds a control character, "=" or "@"';
  for (const part of name.split('/')) {
    if (part === '') return 'a slash must stand between two names';
    if (part === '.' || part === '..') return `a part of it is "${part}"`;
    if (part === 'latest' || SESSION_ID_PATTERN.test(part)) return `"${part}" is reserved for sessions`;
  }
  return undefined;
}

/** @throws TimebandError USAGE */
export function checkVolumeName(name: string): void {
  const problem = volumeNameProblem(name);
  if (problem !== undefined) throw new TimebandError(`"${name}" cannot be a volume's name: ${problem}.`, { code: 'USAGE' });
}

export const volumeRecordCodec: JsonCodec<VolumeRecord> = jsonCodec('volume record', {
  toJson: (record) => ({
    format: 'timeband-volume',
    version: 1,
    name: record.name,
    bandBytes: record.bandBytes,
    created: new Date(record.createdMs).toISOString(),
    note: record.note,
    ...(record.padding === undefined ? {} : { pad: record.padding }),
    ...(record.domain === undefined ? {} : { domain: domainToJson(record.domain) }),
  }),
  fromJson(fields) {
    fields.constant('format', 'timeband-volume');
    fields.constant('version', 1);
    const name = fields.string('name');
    const problem = volumeNameProblem(name);
    if (problem !== undefined) throw new TimebandError(`volume record: the name is not valid: ${problem}`, { code: 'RECORD_CORRUPT' });
    const bandBytes = fields.integer('bandBytes');
    if (!isBandBytes(bandBytes)) throw new TimebandError(`volume record: ${bandBytes} is not a band size`, { code: 'RECORD_CORRUPT' });
    const padding = readPadding(fields, bandBytes);
    const domain = fields.has('domain') ? domainFromJson(fields.object('domain')) : undefined;
    return { name, bandBytes, createdMs: fields.time('created'), note: fields.string('note'), padding, domain };
  },
});

/** @throws TimebandError USAGE */
export function checkDomainName(name: string): void {
  if (DOMAIN_NAME.test(name)) return;
  throw new TimebandError(`"${name}" cannot name a key domain: use 1 to 100 letters, digits, ".", "_" or "-", beginning with a letter or digit.`, {
    code: 'USAGE',
  });
}

function domainToJson({ name, id, bandKey }: KeyDomain): Record<string, string> {
  return { name, id: toHex(id), bandKey: toHex(bandKey) };
}

function domainFromJson(fields: Fields): KeyDomain {
  const name = fields.string('name');
  if (!DOMAIN_NAME.test(name)) throw new TimebandError('volume record: the name of its key domain is not valid', { code: 'RECORD_CORRUPT' });
  return { name, id: fields.hex('id', ID_BYTES), bandKey: fields.hex('bandKey', KEY_BYTES) };
}
