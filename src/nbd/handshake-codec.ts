/**
 * The messages of the NBD handshake, for both sides. Pure.
 *
 *     greeting      u64 NBDMAGIC, u64 IHAVEOPT, u16 flags; the client answers u32 flags
 *     option        u64 IHAVEOPT, u32 option, u32 length, data
 *     option reply  u64 magic, u32 option, u32 type, u32 length, data
 */
import { TimebandError } from '../../bands/errors.ts';
import { GREETING_MAGIC, INFO, MAX_STRING_BYTES, OLDSTYLE_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC } from './protocol.ts';
import { protocolError, WireReader, WireWriter } from './wire.ts';

export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
/** More than the largest option that holds a name and a few queries. */
export const MAX_OPTION_BYTES = 65_536;
const EXPORT_REPLY_ZEROES = 124;

export function encodeGreeting(flags: number): Uint8Array {
  return new WireWriter().u64(GREETING_MAGIC).u64(OPTION_MAGIC).u16(flags).done();
}

/** @returns the server's handshake flags @throws TimebandError SOURCE_INVALID, UNSUPPORTED */
export function decodeGreeting(bytes: Uint8Array): number {
  const reader = new WireReader(bytes);
  if (reader.u64() !== GREETING_MAGIC) throw protocolError('what answers there is no NBD server');
  const style = reader.u64();
  if (style === OLDSTYLE_MAGIC)
    throw new TimebandError('this NBD server speaks only the handshake of before 2011; use a newer server.', { code: 'UNSUPPORTED' });
  if (style !== OPTION_MAGIC) throw protocolError('the greeting is not that of an NBD server');
  const flags = reader.u16();
  reader.end();
  return flags;
}

export function encodeClientFlags(flags: number): Uint8Array {
  return new WireWriter().u32(flags).done();
}

export function decodeClientFlags(bytes: Uint8Array): number {
  const reader = new WireReader(bytes);
  const flags = reader.u32();
  reader.end();
  return flags;
}

export interface OptionHeader {
  readonly option: number;
  /** Bytes of data that follow. */
  readonly length: number;
}

export function encodeOption(option: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  return new WireWriter().u64(OPTION_MAGIC).u32(option).u32(data.length).bytes(data).done();
}

export function decodeOptionHeader(bytes: Uint8Array): OptionHeader {
  const reader = new WireReader(bytes);
  if (reader.u64() !== OPTION_MAGIC) throw protocolError('an option begins with other bytes than options do');
  const header = { option: reader.u32(), length: checkLength(reader.u32()) };
  reader.end();
  return header;
}

export interface OptionReplyHeader extends OptionHeader {
  readonly type: number;
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  return new WireWriter().u64(OPTION_REPLY_MAGIC).u32(option).u32(type).u32(data.length).bytes(data).done();
}

export function decodeOptionReplyHeader(bytes: Uint8Array): OptionReplyHeader {
  const reader = new WireReader(bytes);
  if (reader.u64() !== OPTION_REPLY_MAGIC) throw protocolError('the answer to an option begins with other bytes than such do');
  const header = { option: reader.u32(), type: reader.u32(), length: checkLength(reader.u32()) };
  reader.end();
  return header;
}

function checkLength(length: number): number {
  if (length > MAX_OPTION_BYTES) throw protocolError(`${length} bytes in the handshake; none needs more than ${MAX_OPTION_BYTES}`);
  return length;
}

/** The data of the options `go` and `info`: an export, and what is asked of it. */
export interface ExportRequest {
  readonly exportName: string;
  readonly infos: readonly number[];
}

export function encodeExportRequest({ exportName, infos }: ExportRequest): Uint8Array {
  const writer = new WireWriter().string(checkString(exportName)).u16(infos.length);
  for (const info of infos) writer.u16(info);
  return writer.done();
}

export function decodeExportRequest(bytes: Uint8Array): ExportRequest {
  const reader = new WireReader(bytes);
  const exportName = reader.text(reader.u32());
  const infos = Array.from({ length: reader.u16() }, () => reader.u16());
  reader.end();
  return { exportName, infos };
}

/** The data of `listMetaContext` and `setMetaContext`. */
export interface MetaContextRequest {
  readonly exportName: string;
  readonly queries: readonly string[];
}

export function encodeMetaContextRequest({ exportName, queries }: MetaContextRequest): Uint8Array {
  const writer = new WireWriter().string(checkString(exportName)).u32(queries.length);
  for (const query of queries) writer.string(checkString(query));
  return writer.done();
}

export function decodeMetaContextRequest(bytes: Uint8Array): MetaContextRequest {
  const reader = new WireReader(bytes);
  const exportName = reader.text(reader.u32());
  const count = reader.u32();
  if (count * 4 > reader.left) throw protocolError(`${count} queries do not fit in their message`);
  const queries = Array.from({ length: count }, () => reader.text(reader.u32()));
  reader.end();
  return { exportName, queries };
}

/** The data of a `metaContext` reply: a context that is offered, and its number in block status replies. */
export interface MetaContext {
  readonly id: number;
  readonly name: string;
}

export function encodeMetaContext({ id, name }: MetaContext): Uint8Array {
  return new WireWriter().u32(id).bytes(new TextEncoder().encode(name)).done();
}

export function decodeMetaContext(bytes: Uint8Array): MetaContext {
  const reader = new WireReader(bytes);
  return { id: reader.u32(), name: reader.text() };
}

/** The data of a `server` reply: an export, and a few words about it. */
export interface ServerListing {
  readonly exportName: string;
  readonly details: string;
}

export function encodeServerListing({ exportName, details }: ServerListing): Uint8Array {
  return new WireWriter()
    .string(checkString(exportName))
    .bytes(new TextEncoder().encode(checkString(details)))
    .done();
}

export function decodeServerListing(bytes: Uint8Array): ServerListing {
  const reader = new WireReader(bytes);
  return { exportName: reader.text(reader.u32()), details: reader.text() };
}

/** What answers `exportName`, which has no reply header: size and flags, and zeros unless both sides leave them out. */
export function encodeExportReply(sizeBytes: number, flags: number, hasZeroes: boolean): Uint8Array {
  return new WireWriter()
    .u64(sizeBytes)
    .u16(flags)
    .bytes(new Uint8Array(hasZeroes ? EXPORT_REPLY_ZEROES : 0))
    .done();
}

/** The data of an `info` reply, of the kinds that are used here. */
export type ExportInfo =
  | { readonly kind: 'export'; readonly sizeBytes: number; readonly flags: number }
  | { readonly kind: 'block size'; readonly minimum: number; readonly preferred: number; readonly maximum: number }
  | { readonly kind: 'name' | 'description'; readonly text: string }
  | { readonly kind: 'other' };

export function encodeExportInfo(info: Exclude<ExportInfo, { kind: 'other' }>): Uint8Array {
  const writer = new WireWriter();
  if (info.kind === 'export') return writer.u16(INFO.export).u64(info.sizeBytes).u16(info.flags).done();
  if (info.kind !== 'block size')
    return writer
      .u16(INFO[info.kind])
      .bytes(new TextEncoder().encode(checkString(info.text)))
      .done();
  return writer.u16(INFO.blockSize).u32(info.minimum).u32(info.preferred).u32(info.maximum).done();
}

export function decodeExportInfo(bytes: Uint8Array): ExportInfo {
  const reader = new WireReader(bytes);
  const type = reader.u16();
  if (type === INFO.name || type === INFO.description) return { kind: type === INFO.name ? 'name' : 'description', text: reader.text() };
  if (type !== INFO.export && type !== INFO.blockSize) return { kind: 'other' };
  const info: ExportInfo =
    type === INFO.export
      ? { kind: 'export', sizeBytes: reader.size(), flags: reader.u16() }
      : { kind: 'block size', minimum: reader.u32(), preferred: reader.u32(), maximum: reader.u32() };
  reader.end();
  return info;
}

function checkString(text: string): string {
  if (new TextEncoder().encode(text).length <= MAX_STRING_BYTES) return text;
  throw new TimebandError(`"${text.slice(0, 40)}…" is longer than the ${MAX_STRING_BYTES} bytes that NBD allows.`, { code: 'USAGE' });
}
