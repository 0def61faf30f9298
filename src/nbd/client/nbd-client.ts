/**
 * An NBD client that reads: data into the caller's memory, and what metadata contexts say of it. Many requests may be under
 * way at once; replies are matched by their cookie. The server is not trusted: what it sends beyond what was asked for ends
 * the connection, and every request under way fails with it.
 */
import { messageOf, TimebandError, withPath } from '../../../bands/errors.ts';
import type { NbdEndpoint } from '../nbd-address.ts';
import { CHUNK, CHUNK_ERROR_BIT, CHUNK_FLAG_DONE, COMMAND, EXPORT_FLAG, errorName, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from '../protocol.ts';
import {
  CHUNK_HEADER_BYTES,
  type ChunkHeader,
  DATA_OFFSET_BYTES,
  decodeBlockStatus,
  decodeChunkHeader,
  decodeDataOffset,
  decodeErrorPayload,
  decodeHole,
  decodeSimpleReply,
  type Extent,
  encodeRequest,
  HOLE_BYTES,
  SIMPLE_REPLY_BYTES,
} from '../transmission-codec.ts';
import { protocolError, WireReader } from '../wire.ts';
import { type NbdExport, negotiate } from './client-handshake.ts';
import { Coverage } from './coverage.ts';
import { SocketStream } from './socket-stream.ts';

/** A server that says nothing for so long, while it owes an answer, is given up. */
const SILENCE_MS = 120_000;
/** One read request; larger reads are several at once. */
const READ_BYTES = 4_194_304;
const STATUS_BYTES = 2_147_483_648;
/** A status that tells of less takes for ever. */
const MIN_STATUS_BYTES = 512;
const MAX_STATUS_PAYLOAD_BYTES = 8_388_612;
const MAX_ERROR_BYTES = 8192;
const MAGIC_BYTES = 4;

export interface NbdConnectOptions {
  readonly endpoint: NbdEndpoint;
  readonly exportName: string;
  /** Metadata contexts to ask for; which of them the server has, `contexts` tells. */
  readonly contexts?: readonly string[];
  readonly silenceMs?: number;
}

/** A run of bytes, and what one metadata context says of it. */
export interface ContextExtent {
  readonly context: string;
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
}

interface Pending {
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  /** Of a read: where its bytes go. */
  readonly out: Uint8Array;
  readonly coverage: Coverage;
  readonly statuses: Map<number, readonly Extent[]>;
  error: TimebandError | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class NbdClient implements AsyncDisposable {
  readonly sizeBytes: number;
  /** Names of the contexts that the server has of those asked for. */
  readonly contexts: ReadonlySet<string>;
  /** QEMU bitmaps that the server has, if one was asked for that it has not. */
  readonly offeredBitmaps: readonly string[];
  /** Whether the server lets nobody write through this export. */
  readonly isReadOnly: boolean;
  readonly #export: NbdExport;
  readonly #stream: SocketStream;
  readonly #silenceMs: number;
  readonly #pending = new Map<bigint, Pending>();
  readonly #receiving: Promise<void>;
  #nextCookie = 1n;
  #failure: TimebandError | undefined;

  private constructor(stream: SocketStream, found: NbdExport, silenceMs: number) {
    this.#stream = stream;
    this.#export = found;
    this.#silenceMs = silenceMs;
    this.sizeBytes = found.sizeBytes;
    this.contexts = new Set(found.contexts.values());
    this.offeredBitmaps = found.offeredBitmaps;
    this.isReadOnly = (found.flags & EXPORT_FLAG.readOnly) !== 0;
    stream.limitSilence(0);
    this.#receiving = this.#receive();
  }

  /** @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, SOURCE_UNREADABLE, PERMISSION_DENIED, UNSUPPORTED, USAGE, IO_ERROR */
  static async connect({ endpoint, exportName, contexts = [], silenceMs = SILENCE_MS }: NbdConnectOptions): Promise<NbdClient> {
    const stream = await SocketStream.connect(endpoint);
    try {
      stream.limitSilence(silenceMs);
      return new NbdClient(stream, await negotiate(stream, { exportName, contexts }), silenceMs);
    } catch (error) {
      await stream.close();
      throw withPath(error, stream.where);
    }
  }

  /** Fills `out` from `offset`. It is not written to any more once this has settled. @throws TimebandError SOURCE_UNREADABLE, SOURCE_INVALID */
  async read(offset: number, out: Uint8Array): Promise<void> {
    const end = offset + out.length;
    if (offset < 0 || end > this.sizeBytes) throw new RangeError('offset: beyond the export');
    const block = this.#export.minimumBlockBytes;
    const isAligned = offset % block === 0 && (end % block === 0 || end === this.sizeBytes);
    if (isAligned) return await this.#readBlocks(offset, out);
    const start = offset - (offset % block);
    const room = new Uint8Array(Math.min(Math.ceil(end / block) * block, this.sizeBytes) - start);
    await this.#readBlocks(start, room);
    out.set(room.subarray(offset - start, end - start));
  }

  async #readBlocks(offset: number, out: Uint8Array): Promise<void> {
    const step = Math.min(READ_BYTES - (READ_BYTES % this.#export.minimumBlockBytes), this.#export.maximumBytes);
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < out.length; at += step) {
      const part = out.subarray(at, at + step);
      parts.push(this.#request(COMMAND.read, { offset: offset + at, length: part.length, out: part }));
    }
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected'); // all: none may write into `out` later
    if (failed !== undefined) throw failed.reason;
  }

  /**
   * Tells `visit` what every selected context says of the whole export, for each context in the order of offsets.
   * @throws TimebandError SOURCE_UNREADABLE, SOURCE_INVALID
   */
  async readExtents(visit: (extent: ContextExtent) => void): Promise<void> {
    if (this.#export.contexts.size === 0) return;
    for (let offset = 0; offset < this.sizeBytes; ) {
      const length = Math.min(STATUS_BYTES, this.sizeBytes - offset);
      const { statuses } = await this.#request(COMMAND.blockStatus, { offset, length, out: new Uint8Array(0) });
      const covered = this.#coveredBytes(offset, length, statuses);
      for (const [id, context] of this.#export.contexts) {
        let at = offset;
        for (const { length: extentBytes, flags } of statuses.get(id) ?? []) {
          const end = Math.min(at + extentBytes, offset + covered);
          if (end > at) visit({ context, offset: at, length: end - at, flags });
          at = end;
        }
      }
      offset += covered;
    }
  }

  /** How far all contexts reach. The last extent may go beyond the request, nothing beyond the export. */
  #coveredBytes(offset: number, length: number, statuses: ReadonlyMap<number, readonly Extent[]>): number {
    let covered = length;
    for (const [id, name] of this.#export.contexts) {
      const extents = statuses.get(id);
      if (extents === undefined) throw this.#broken(`no status of the context "${name}"`);
      let total = 0;
      for (const extent of extents) {
        if (total >= length) throw this.#broken(`extents of "${name}" behind the end of what was asked for`);
        total += extent.length;
      }
      if (offset + total > this.sizeBytes) throw this.#broken(`extents of "${name}" beyond the end of the export`);
      covered = Math.min(covered, total);
    }
    if (covered < Math.min(MIN_STATUS_BYTES, length)) throw this.#broken(`a status of ${covered} bytes when ${length} were asked for`);
    return covered;
  }

  #broken(what: string): TimebandError {
    return this.#fail(protocolError(what));
  }

  #request(command: number, { offset, length, out }: Pick<Pending, 'offset' | 'length' | 'out'>): Promise<Pending> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const cookie = this.#nextCookie++;
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        ...{ command, offset, length, out, reject },
        coverage: new Coverage(offset, command === COMMAND.read ? length : 0),
        statuses: new Map(),
        error: undefined,
        resolve: () => resolve(pending),
      };
      if (this.#pending.size === 0) this.#stream.limitSilence(this.#silenceMs);
      this.#pending.set(cookie, pending);
      this.#stream.write(encodeRequest({ flags: 0, command, cookie, offset, length }));
    });
  }

  async #receive(): Promise<void> {
    try {
      for (;;) {
        const magic = new WireReader(await this.#stream.read(MAGIC_BYTES)).u32();
        if (magic === SIMPLE_REPLY_MAGIC) await this.#takeSimpleReply();
        else if (magic === STRUCTURED_REPLY_MAGIC && this.#export.isStructured) await this.#takeChunk();
        else throw protocolError(`a reply that begins with 0x${magic.toString(16)}`);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #pendingOf(cookie: bigint): Pending {
    const pending = this.#pending.get(cookie);
    if (pending === undefined) throw protocolError(`a reply to request ${cookie}, which is not under way`);
    return pending;
  }

  async #takeSimpleReply(): Promise<void> {
    const { error, cookie } = decodeSimpleReply(await this.#stream.read(SIMPLE_REPLY_BYTES - MAGIC_BYTES));
    const pending = this.#pendingOf(cookie);
    if (error !== 0) pending.error = this.#refused(pending, error, '');
    else if (this.#export.isStructured || pending.command !== COMMAND.read) throw protocolError('a simple reply where a structured one belongs');
    else {
      await this.#stream.readInto(pending.out);
      pending.coverage.add(pending.offset, pending.length);
    }
    this.#settle(cookie, pending);
  }

  async #takeChunk(): Promise<void> {
    const header = decodeChunkHeader(await this.#stream.read(CHUNK_HEADER_BYTES - MAGIC_BYTES));
    const pending = this.#pendingOf(header.cookie);
    await this.#takePayload(header, pending);
    if ((header.flags & CHUNK_FLAG_DONE) !== 0) this.#settle(header.cookie, pending);
  }

  async #takePayload(header: ChunkHeader, pending: Pending): Promise<void> {
    const { type, length } = header;
    if ((type & CHUNK_ERROR_BIT) !== 0) {
      const { error, message } = decodeErrorPayload(await this.#readAtMost(length, MAX_ERROR_BYTES));
      pending.error ??= this.#refused(pending, error, message);
    } else if (type === CHUNK.offsetData && pending.command === COMMAND.read) await this.#takeData(length, pending);
    else if (type === CHUNK.offsetHole && pending.command === COMMAND.read) {
      const hole = decodeHole(await this.#readAtMost(length, HOLE_BYTES));
      pending.coverage.add(hole.offset, hole.length);
      pending.out.fill(0, hole.offset - pending.offset, hole.offset - pending.offset + hole.length);
    } else if (type === CHUNK.blockStatus && pending.command === COMMAND.blockStatus) {
      const { contextId, extents } = decodeBlockStatus(await this.#readAtMost(length, MAX_STATUS_PAYLOAD_BYTES));
      if (!this.#export.contexts.has(contextId) || pending.statuses.has(contextId)) throw protocolError(`a status of the context ${contextId}`);
      pending.statuses.set(contextId, extents);
    } else if (type !== CHUNK.none || length !== 0 || (header.flags & CHUNK_FLAG_DONE) === 0)
      throw protocolError(`a chunk of type ${type} and ${length} bytes, which does not belong to what was asked`);
  }

  async #takeData(length: number, pending: Pending): Promise<void> {
    if (length <= DATA_OFFSET_BYTES || length > DATA_OFFSET_BYTES + pending.length) throw protocolError(`data of ${length} bytes`);
    const offset = decodeDataOffset(await this.#stream.read(DATA_OFFSET_BYTES));
    const bytes = length - DATA_OFFSET_BYTES;
    pending.coverage.add(offset, bytes); // first: it refuses what would not fit
    await this.#stream.readInto(pending.out.subarray(offset - pending.offset, offset - pending.offset + bytes));
  }

  async #readAtMost(length: number, limit: number): Promise<Uint8Array> {
    if (length > limit) throw protocolError(`${length} bytes where ${limit} are the most`);
    return await this.#stream.read(length);
  }

  #settle(cookie: bigint, pending: Pending): void {
    if (pending.error === undefined && !pending.coverage.isComplete)
      throw protocolError(`the reply to a read of ${pending.length} bytes at ${pending.offset} leaves some out`);
    this.#pending.delete(cookie);
    if (this.#pending.size === 0) this.#stream.limitSilence(0);
    if (pending.error === undefined) pending.resolve();
    else pending.reject(pending.error);
  }

  #refused({ command, offset, length }: Pending, error: number, message: string): TimebandError {
    const what = command === COMMAND.read ? 'read' : 'tell of';
    const tail = message === '' ? '' : `: ${message}`;
    return new TimebandError(
      `the NBD server at ${this.#stream.where} could not ${what} ${length} bytes at byte ${offset} (${errorName(error)}${tail}).`,
      {
        code: 'SOURCE_UNREADABLE',
        path: this.#stream.where,
      },
    );
  }

  /** Ends the connection and all that is under way. @returns the first failure, which all of it gets */
  #fail(error: unknown): TimebandError {
    const named = withPath(error, this.#stream.where);
    this.#failure ??= named instanceof TimebandError ? named : new TimebandError(messageOf(error), { code: 'IO_ERROR', cause: error });
    this.#stream.fail(this.#failure);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(this.#failure);
    return this.#failure;
  }

  /** Takes leave of the server; what is under way fails. */
  async close(): Promise<void> {
    if (this.#failure === undefined) {
      this.#failure = new TimebandError(`the connection to ${this.#stream.where} was closed.`, { code: 'SOURCE_UNREADABLE' });
      this.#stream.write(encodeRequest({ flags: 0, command: COMMAND.disconnect, cookie: this.#nextCookie, offset: 0, length: 0 }));
    }
    await this.#stream.close();
    await this.#receiving;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
