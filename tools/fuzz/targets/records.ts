/** The plain content of the repository's files: documents in JSON, index pages, bitmaps, session ids. */
import { Bitmap } from '../../../bands/format/bitmap.ts';
import { equalBytes, utf8 } from '../../../bands/format/bytes.ts';
import { damagedListCodec } from '../../../bands/format/damaged-list.ts';
import { DEFAULT_BAND_BYTES } from '../../../bands/format/geometry.ts';
import { decodePage, ENTRY_BYTES, entryCount, readEntry, writeEntry } from '../../../bands/format/index-page.ts';
import type { JsonCodec } from '../../../bands/format/json-record.ts';
import { DEFAULT_SCRYPT, keySlotCodec, scryptMemoryBytes } from '../../../bands/format/key-slot.ts';
import { labelsCodec } from '../../../bands/format/labels.ts';
import { manifestCodec } from '../../../bands/format/manifest.ts';
import { repositoryConfigCodec } from '../../../bands/format/repository-config.ts';
import { formatSessionId, parseSessionId } from '../../../bands/format/session-id.ts';
import { volumeKeyCodec } from '../../../bands/format/volume-key.ts';
import { volumeRecordCodec } from '../../../bands/format/volume-record.ts';
import { broken, type FuzzTarget } from '../target.ts';

const CREATED_MS = 1_795_255_200_123;
const ENTRIES = 5;
const BITS = 77;
const MAX_SLOT_MEMORY_BYTES = 2 ** 31;

function filled(length: number, byte: number): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

/** What is accepted has one form only, so it encodes to the same bytes. */
function document<T>(name: string, codec: JsonCodec<T>, samples: readonly T[], check: (value: T) => void = () => {}): FuzzTarget {
  return {
    name,
    samples: samples.map((sample) => codec.encode(sample)),
    codes: ['RECORD_CORRUPT'],
    decode(bytes) {
      const value = codec.decode(bytes);
      if (!equalBytes(codec.encode(value), bytes)) throw broken('a document encodes to the bytes that it was decoded from');
      check(value);
    },
  };
}

const page = new Uint8Array(ENTRIES * ENTRY_BYTES);
for (const i of [0, 2, 3]) writeEntry(page, i, { fileBytes: 40_000 + i, salt: filled(24, i), fingerprint: filled(16, i), digest: filled(32, i + 1) });

const indexPage: FuzzTarget = {
  name: 'index page',
  samples: [page, new Uint8Array(ENTRIES * ENTRY_BYTES)],
  codes: ['RECORD_CORRUPT'],
  decode(bytes) {
    const entries = decodePage(bytes, { entries: ENTRIES, bandBytes: DEFAULT_BAND_BYTES });
    if (entryCount(entries) !== ENTRIES) throw broken('a page has the entries that were asked for');
    for (let i = 0; i < ENTRIES; i++) {
      const fileBytes = readEntry(entries, i)?.fileBytes ?? 0;
      if (fileBytes > 2 * DEFAULT_BAND_BYTES) throw broken('no entry names a file that is larger than a band file can be');
    }
  },
};

const bitmap: FuzzTarget = {
  name: 'bitmap',
  samples: [new Uint8Array(Math.ceil(BITS / 8)), filled(Math.floor(BITS / 8), 0xff)],
  codes: ['RECORD_CORRUPT'],
  decode(bytes) {
    const bits = Bitmap.decode(bytes, BITS);
    for (const bit of bits) if (bit >= BITS) throw broken('no bit lies beyond the bitmap');
    if (!equalBytes(bits.encode(), bytes)) throw broken('a bitmap encodes to its bytes');
  },
};

const sessionId: FuzzTarget = {
  name: 'session id',
  samples: ['20261121T100000.123Z', '20000229T235959.999Z', '99991231T000000.000Z'].map(utf8),
  codes: [],
  decode(bytes) {
    const text = Buffer.from(bytes).toString('latin1');
    const timeMs = parseSessionId(text);
    if (timeMs !== undefined && formatSessionId(timeMs) !== text) throw broken('a session id is the one form of its time');
  },
};

const SLOT = {
  id: filled(8, 1),
  createdMs: CREATED_MS,
  scrypt: DEFAULT_SCRYPT,
  salt: filled(32, 2),
  nonce: filled(24, 3),
  wrapped: filled(48, 4),
} as const;

export const recordTargets: readonly FuzzTarget[] = [
  document('repository.json', repositoryConfigCodec, [{ id: filled(16, 7), cipher: 'aes-256-gcm', createdMs: CREATED_MS }]),
  document(
    'key slot',
    keySlotCodec,
    [
      { ...SLOT, version: 1, kind: 'passphrase' },
      { ...SLOT, version: 2, kind: 'recovery-phrase', configDigest: filled(32, 5) },
    ],
    ({ scrypt }) => {
      if (scryptMemoryBytes(scrypt) > MAX_SLOT_MEMORY_BYTES) throw broken('no slot asks for more than 2 GiB of memory');
    },
  ),
  document('volume key', volumeKeyCodec, [{ configDigest: filled(32, 5), volumeId: filled(16, 9), key: filled(32, 6) }]),
  document('volume record', volumeRecordCodec, [
    { name: 'appvms/work/private', bandBytes: DEFAULT_BAND_BYTES, createdMs: CREATED_MS, note: 'Größe "x"\n', padding: 'padme', domain: undefined },
    {
      name: 'clone',
      bandBytes: DEFAULT_BAND_BYTES,
      createdMs: CREATED_MS,
      note: '',
      padding: 262_144,
      domain: { name: 'templates', id: filled(16, 5), bandKey: filled(32, 6) },
    },
  ]),
  document('damaged list', damagedListCodec, [
    [
      { bandIndex: 3, salt: filled(24, 9) },
      { bandIndex: 700, salt: filled(24, 2) },
    ],
  ]),
  document('labels', labelsCodec, [
    { tags: ['before-upgrade', 'weekly'], note: 'a note', isProtected: true, verified: { atMs: CREATED_MS, withData: true } },
    { tags: [], note: '', isProtected: false, verified: undefined },
  ]),
  document('manifest', manifestCodec, [
    {
      sessionId: '20261121T100000.123Z',
      volumeId: filled(16, 9),
      sizeBytes: 513 * DEFAULT_BAND_BYTES,
      bandBytes: DEFAULT_BAND_BYTES,
      startedMs: CREATED_MS,
      finishedMs: CREATED_MS + 4321,
      base: { sessionId: '20261120T100000.000Z', manifestDigest: filled(32, 5) },
      pageDigests: [filled(32, 6), filled(32, 7)],
      bitmapDigest: filled(32, 8),
      source: { kind: 'image', location: '/images/mail.img', host: 'host' },
      totals: { bands: 513, zeroBands: 12, changedBands: 3, storedBytes: 5_000_000_000, writtenBytes: 30_000 },
      program: 'timeband 0.1.0',
      padding: 262_144,
      domainId: filled(16, 5),
    },
  ]),
  indexPage,
  bitmap,
  sessionId,
];
