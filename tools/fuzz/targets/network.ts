/** Messages of the NBD protocol, as they come from the other side. */
import { equalBytes } from '../../../bands/format/bytes.ts';
import * as handshake from '../../../src/nbd/handshake-codec.ts';
import * as transmission from '../../../src/nbd/transmission-codec.ts';
import { broken, type FuzzTarget } from '../target.ts';

interface Message<T> {
  decode(bytes: Uint8Array): T;
  encode(value: T): Uint8Array;
  readonly samples: readonly T[];
  /** Whether a value may have more than one form: bytes that are skipped, text that is not UTF-8. */
  readonly isLoose?: boolean;
}

function message<T>(name: string, { decode, encode, samples, isLoose = false }: Message<T>): FuzzTarget {
  return {
    name: `NBD ${name}`,
    samples: samples.map((sample) => encode(sample)),
    codes: ['SOURCE_INVALID'],
    decode(bytes) {
      const value = decode(bytes);
      if (!isLoose && !equalBytes(encode(value), bytes)) throw broken('a message encodes to the bytes that it was decoded from');
    },
  };
}

/** A reply's magic number is read before it, since it tells which kind of reply follows. */
const withoutMagic = (bytes: Uint8Array): Uint8Array => bytes.subarray(4);

const { encodeBlockStatus, decodeBlockStatus, encodeHole, decodeHole, encodeErrorPayload, decodeErrorPayload } = transmission;
const { encodeExportRequest, decodeExportRequest, encodeMetaContextRequest, decodeMetaContextRequest } = handshake;

export const networkTargets: readonly FuzzTarget[] = [
  message('request', {
    decode: transmission.decodeRequest,
    encode: transmission.encodeRequest,
    samples: [{ flags: 0, command: 0, cookie: 7n, offset: 4096, length: 65_536 }],
  }),
  message('simple reply', {
    decode: transmission.decodeSimpleReply,
    encode: (reply) => withoutMagic(transmission.encodeSimpleReply(reply)),
    samples: [{ error: 5, cookie: 9n }],
  }),
  message('chunk header', {
    decode: transmission.decodeChunkHeader,
    encode: (header) => withoutMagic(transmission.encodeChunkHeader(header)),
    samples: [{ flags: 1, type: 1, cookie: 9n, length: 4104 }],
  }),
  message('hole', { decode: decodeHole, encode: encodeHole, samples: [{ offset: 8192, length: 4096 }] }),
  message('block status', {
    decode: decodeBlockStatus,
    encode: encodeBlockStatus,
    samples: [{ contextId: 1, extents: [1, 2, 3].map((flags) => ({ length: 65_536, flags })) }],
  }),
  message('error', { decode: decodeErrorPayload, encode: encodeErrorPayload, samples: [{ error: 5, message: 'damaged band' }], isLoose: true }),
  message('greeting', { decode: handshake.decodeGreeting, encode: handshake.encodeGreeting, samples: [3] }),
  message('export request', {
    decode: decodeExportRequest,
    encode: encodeExportRequest,
    samples: [{ exportName: 'work/private', infos: [0, 3] }],
    isLoose: true,
  }),
  message('listing of an export', {
    decode: handshake.decodeServerListing,
    encode: handshake.encodeServerListing,
    samples: [{ exportName: 'work/private', details: 'the newest session' }],
    isLoose: true,
  }),
  message('context request', {
    decode: decodeMetaContextRequest,
    encode: encodeMetaContextRequest,
    samples: [{ exportName: 'work/private', queries: ['base:allocation', 'qemu:dirty-bitmap:b0'] }],
    isLoose: true,
  }),
  {
    name: 'NBD export info',
    samples: [
      handshake.encodeExportInfo({ kind: 'export', sizeBytes: 2 ** 40, flags: 0x1ff }),
      handshake.encodeExportInfo({ kind: 'block size', minimum: 1, preferred: 4096, maximum: 2 ** 25 }),
      handshake.encodeExportInfo({ kind: 'description', text: 'the newest session' }),
    ],
    codes: ['SOURCE_INVALID'],
    decode(bytes) {
      const info = handshake.decodeExportInfo(bytes);
      if (info.kind === 'export' && !Number.isSafeInteger(info.sizeBytes)) throw broken('a size is a number that can be counted with');
    },
  },
];
