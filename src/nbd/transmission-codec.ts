/**
 * The messages of the NBD transmission phase, for both sides. Pure.
 *
 *     request       u32 magic, u16 flags, u16 command, u64 cookie, u64 offset, u32 length; data of a write
 *     simple reply  u32 magic, u32 error, u64 cookie; data of a read
 *     chunk         u32 magic, u16 flags, u16 type, u64 cookie, u32 length, payload
 *
 * Payloads: data: u64 offset, bytes. Hole: u64 offset, u32 length. Block status: u32 context, (u32 length, u32 flags)…
 * Error: u32 error, u16 message length, message; with an offset: u64 behind that.
 */
import { viewOf } from '../../bands/format/bytes.ts';
import { REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from './protocol.ts';
import { protocolError, WireReader, WireWriter } from './wire.ts';

export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;
/** The part of a data chunk before its bytes. */
export const DATA_OFFSET_BYTES = 8;
export const HOLE_BYTES = 12;
const EXTENT_BYTES = 8;

export interface Request {
  readonly flags: number;
  readonly command: number;
  /** Chosen by the client; the reply carries it. */
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
}

export function encodeRequest({ flags, command, cookie, offset, length }: Request): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, REQUEST_MAGIC);
  view.setUint16(4, flags);
  view.setUint16(6, command);
  view.setBigUint64(8, cookie);
  view.setBigUint64(16, BigInt(offset));
  view.setUint32(24, length);
  return bytes;
}

export function decodeRequest(bytes: Uint8Array): Request {
  const reader = new WireReader(bytes);
  if (reader.u32() !== REQUEST_MAGIC) throw protocolError('a request begins with other bytes than requests do');
  const [flags, command, cookie] = [reader.u16(), reader.u16(), reader.u64()];
  const request = { flags, command, cookie, offset: reader.size(), length: reader.u32() };
  reader.end();
  return request;
}

export interface SimpleReply {
  readonly error: number;
  readonly cookie: bigint;
}

export function encodeSimpleReply({ error, cookie }: SimpleReply): Uint8Array {
  return new WireWriter().u32(SIMPLE_REPLY_MAGIC).u32(error).u64(cookie).done();
}

/** Decodes what follows the magic number. */
export function decodeSimpleReply(bytes: Uint8Array): SimpleReply {
  const reader = new WireReader(bytes);
  const reply = { error: reader.u32(), cookie: reader.u64() };
  reader.end();
  return reply;
}

export interface ChunkHeader {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  /** Bytes of payload that follow. */
  readonly length: number;
}

export function encodeChunkHeader({ flags, type, cookie, length }: ChunkHeader): Uint8Array {
  return new WireWriter().u32(STRUCTURED_REPLY_MAGIC).u16(flags).u16(type).u64(cookie).u32(length).done();
}

/** Decodes what follows the magic number. */
export function decodeChunkHeader(bytes: Uint8Array): ChunkHeader {
  const reader = new WireReader(bytes);
  const header = { flags: reader.u16(), type: reader.u16(), cookie: reader.u64(), length: reader.u32() };
  reader.end();
  return header;
}

export function encodeDataOffset(offset: number): Uint8Array {
  return new WireWriter().u64(offset).done();
}

export function decodeDataOffset(bytes: Uint8Array): number {
  return new WireReader(bytes).size();
}

export interface Hole {
  readonly offset: number;
  readonly length: number;
}

export function encodeHole({ offset, length }: Hole): Uint8Array {
  return new WireWriter().u64(offset).u32(length).done();
}

export function decodeHole(bytes: Uint8Array): Hole {
  const reader = new WireReader(bytes);
  const hole = { offset: reader.size(), length: reader.u32() };
  reader.end();
  return hole;
}

/** A run of bytes and what its context says of it. */
export interface Extent {
  readonly length: number;
  readonly flags: number;
}

export interface BlockStatus {
  readonly contextId: number;
  /** From the offset of the request on, one behind the other. */
  readonly extents: readonly Extent[];
}

export function encodeBlockStatus({ contextId, extents }: BlockStatus): Uint8Array {
  const writer = new WireWriter().u32(contextId);
  for (const { length, flags } of extents) writer.u32(length).u32(flags);
  return writer.done();
}

/** @throws TimebandError SOURCE_INVALID also for an extent of no length */
export function decodeBlockStatus(bytes: Uint8Array): BlockStatus {
  const reader = new WireReader(bytes);
  const contextId = reader.u32();
  if (reader.left === 0 || reader.left % EXTENT_BYTES !== 0) throw protocolError(`a block status of ${bytes.length} bytes`);
  const extents: Extent[] = [];
  while (reader.left > 0) {
    const extent = { length: reader.u32(), flags: reader.u32() };
    if (extent.length === 0) throw protocolError('an extent of no bytes');
    extents.push(extent);
  }
  return { contextId, extents };
}

export interface ErrorPayload {
  readonly error: number;
  readonly message: string;
}

export function encodeErrorPayload({ error, message }: ErrorPayload): Uint8Array {
  const text = new TextEncoder().encode(message);
  return new WireWriter().u32(error).u16(text.length).bytes(text).done();
}

/** Also of errors with more behind the message, such as an offset. */
export function decodeErrorPayload(bytes: Uint8Array): ErrorPayload {
  const reader = new WireReader(bytes);
  const error = reader.u32();
  if (error === 0) throw protocolError('an error that is none');
  return { error, message: reader.text(reader.u16()) };
}
