/**
 * The numbers of the NBD protocol, of which both sides use the same: fixed newstyle handshake, structured replies, metadata
 * contexts. All integers on the wire are big-endian. Source: doc/proto.md of NetworkBlockDevice/nbd.
 */

/** "NBDMAGIC", then "IHAVEOPT"; the second one also begins each option. */
export const GREETING_MAGIC = 0x4e42444d41474943n;
export const OPTION_MAGIC = 0x49484156454f5054n;
/** In the place of IHAVEOPT: a server that knows only the handshake of before 2011. */
export const OLDSTYLE_MAGIC = 0x420281861253n;
export const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** The server's handshake flags; a client answers with the same bits. */
export const HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const OPTION_REPLY = { ack: 1, server: 2, info: 3, metaContext: 4 } as const;
/** Replies from here on are errors; their data is a message. */
export const OPTION_ERROR_BIT = 0x80000000;
export const OPTION_ERROR = {
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  platform: 0x80000004,
  tlsRequired: 0x80000005,
  unknownExport: 0x80000006,
  shutdown: 0x80000007,
  blockSizeRequired: 0x80000008,
  tooBig: 0x80000009,
} as const;

/** Flags of an export. */
export const EXPORT_FLAG = { hasFlags: 1, readOnly: 2, flush: 4, fua: 8, trim: 32, writeZeroes: 64, df: 128, multiConn: 256, cache: 1024 } as const;

/** What an `info` reply is about. */
export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, cache: 5, writeZeroes: 6, blockStatus: 7 } as const;

/** Flags of a request: durable before the answer; one chunk of data; one extent for each context. */
export const COMMAND_FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const;

/** Flags of a chunk of a structured reply: the last one of its request. */
export const CHUNK_FLAG_DONE = 1;
export const CHUNK = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5, error: 0x8001, errorOffset: 0x8002 } as const;
/** Chunks with this bit are errors, also those of types that are not known. */
export const CHUNK_ERROR_BIT = 0x8000;

/** The metadata context that every server understands, and the meaning of its bits. */
export const BASE_ALLOCATION = 'base:allocation';
export const ALLOCATION = { hole: 1, zero: 2 } as const;
/** Before the name of a QEMU bitmap; bit 0 of its extents: dirty. */
export const DIRTY_BITMAP_PREFIX = 'qemu:dirty-bitmap:';

/** No string on the wire is longer. */
export const MAX_STRING_BYTES = 4096;
/** What a peer that says nothing else takes in one request. */
export const MAX_PAYLOAD_BYTES = 33_554_432;

/** Errno values as the protocol fixes them, whatever the system's own. */
export const NBD_ERROR = { EPERM: 1, EIO: 5, ENOMEM: 12, EINVAL: 22, ENOSPC: 28, EOVERFLOW: 75, ENOTSUP: 95, ESHUTDOWN: 108 } as const;

export function errorName(error: number): string {
  return Object.entries(NBD_ERROR).find(([, value]) => value === error)?.[0] ?? `error ${error}`;
}
