/** The replies to one client's requests, in the form that was agreed on: simple, or structured in chunks. */
import { concat } from '../../../bands/format/bytes.ts';
import { CHUNK, CHUNK_FLAG_DONE } from '../protocol.ts';
import {
  DATA_OFFSET_BYTES,
  type Extent,
  encodeBlockStatus,
  encodeChunkHeader,
  encodeDataOffset,
  encodeErrorPayload,
  encodeHole,
  encodeSimpleReply,
  type Hole,
  type Request,
} from '../transmission-codec.ts';
import type { ClientStream } from './client-stream.ts';
import { ALLOCATION_ID } from './server-handshake.ts';

/** No message of an error is longer. */
const MAX_MESSAGE_LENGTH = 1000;

export class Replies {
  readonly #stream: ClientStream;
  readonly isStructured: boolean;

  constructor(stream: ClientStream, isStructured: boolean) {
    this.#stream = stream;
    this.isStructured = isStructured;
  }

  /** Done, with nothing to tell. */
  done({ cookie }: Request): Promise<void> {
    if (!this.isStructured) return this.#stream.write(encodeSimpleReply({ error: 0, cookie }));
    return this.#stream.write(encodeChunkHeader({ flags: CHUNK_FLAG_DONE, type: CHUNK.none, cookie, length: 0 }));
  }

  error({ cookie }: Request, error: number, message: string): Promise<void> {
    if (!this.isStructured) return this.#stream.write(encodeSimpleReply({ error, cookie }));
    return this.#chunk(cookie, { type: CHUNK.error, isLast: true }, encodeErrorPayload({ error, message: message.slice(0, MAX_MESSAGE_LENGTH) }));
  }

  /** All data of a read in one. */
  whole({ cookie, offset }: Request, bytes: Uint8Array): Promise<void> {
    if (!this.isStructured) return this.#stream.write(encodeSimpleReply({ error: 0, cookie }), bytes);
    return this.data({ cookie, offset }, bytes, true);
  }

  /** A part of the data of a read, from `offset` of the image. */
  data({ cookie, offset }: Pick<Request, 'cookie' | 'offset'>, bytes: Uint8Array, isLast: boolean): Promise<void> {
    const flags = isLast ? CHUNK_FLAG_DONE : 0;
    const header = encodeChunkHeader({ flags, type: CHUNK.offsetData, cookie, length: DATA_OFFSET_BYTES + bytes.length });
    return this.#stream.write(concat(header, encodeDataOffset(offset)), bytes);
  }

  /** A part of a read that is zeros. */
  hole(cookie: bigint, hole: Hole, isLast: boolean): Promise<void> {
    return this.#chunk(cookie, { type: CHUNK.offsetHole, isLast }, encodeHole(hole));
  }

  status({ cookie }: Request, extents: readonly Extent[]): Promise<void> {
    return this.#chunk(cookie, { type: CHUNK.blockStatus, isLast: true }, encodeBlockStatus({ contextId: ALLOCATION_ID, extents }));
  }

  #chunk(cookie: bigint, { type, isLast }: { readonly type: number; readonly isLast: boolean }, payload: Uint8Array): Promise<void> {
    const header = encodeChunkHeader({ flags: isLast ? CHUNK_FLAG_DONE : 0, type, cookie, length: payload.length });
    return this.#stream.write(concat(header, payload));
  }
}
