/**
 * One client, from its greeting to its end. Requests are worked on side by side and answered as they get ready; how many, and how
 * many bytes, is bounded, and what was answered counts until the client has taken it: one that does not is not read from.
 */
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { createCursor, isWritable, type ReadCursor, type WritableImage } from '../../../bands/store/image.ts';
import type { SpareBuffers } from '../../../bands/store/spare-buffers.ts';
import { ALLOCATION, COMMAND, COMMAND_FLAG, MAX_PAYLOAD_BYTES, NBD_ERROR } from '../protocol.ts';
import { decodeRequest, type Extent, REQUEST_BYTES, type Request } from '../transmission-codec.ts';
import { protocolError } from '../wire.ts';
import { Budget } from './budget.ts';
import type { ClientStream } from './client-stream.ts';
import { Replies } from './replies.ts';
import { type RequestScene, refusalOf } from './request-rules.ts';
import type { ServedExport } from './served-export.ts';
import type { Agreement } from './server-handshake.ts';

const MAX_REQUESTS = 16;
const MAX_BYTES = 8_388_608;
/** The most of a request that is in memory at once, where the protocol allows to split it. */
const PIECE_BYTES = 1_048_576;
/** In one answer; a client asks for the rest again. */
const MAX_EXTENTS = 4096;
/** An answer about more would have a length that does not fit. */
const MAX_EXTENT_BYTES = 2 ** 32 - 4096;

export interface ConnectionOptions {
  readonly buffers: SpareBuffers;
  /** Told of each request that failed, for the log. */
  readonly onError: (what: string, error: unknown) => void;
}

/** A run of a read: zeros that need not be sent, or bytes. */
interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly isZero: boolean;
}

export class Connection {
  readonly #stream: ClientStream;
  readonly #export: ServedExport;
  readonly #options: ConnectionOptions;
  readonly #scene: RequestScene;
  readonly #replies: Replies;
  readonly #budget = new Budget(MAX_REQUESTS, MAX_BYTES);
  readonly #cursor: ReadCursor = createCursor();

  constructor(stream: ClientStream, agreement: Agreement, options: ConnectionOptions) {
    const { image } = agreement.export;
    this.#stream = stream;
    this.#export = agreement.export;
    this.#options = options;
    this.#replies = new Replies(stream, agreement.isStructured);
    this.#scene = {
      sizeBytes: image.sizeBytes,
      isWritable: isWritable(image),
      canZero: isWritable(image) && image.zero !== undefined,
      isStructured: agreement.isStructured,
      hasAllocation: agreement.hasAllocation,
    };
  }

  /** Serves until the client says that it goes, or is gone, and what it asked for has been answered. @throws TimebandError SOURCE_INVALID */
  async run(): Promise<void> {
    try {
      for (;;) {
        const bytes = await this.#stream.read(REQUEST_BYTES);
        if (bytes === undefined) return;
        const request = decodeRequest(bytes);
        if (request.command === COMMAND.disconnect) return;
        if (request.command === COMMAND.write) await this.#takeWrite(request);
        else await this.#begin(request, this.#costOf(request), () => this.#answer(request));
      }
    } catch (error) {
      this.#stream.destroy(); // else what it does not take would be waited for
      throw error;
    } finally {
      await this.#budget.rest();
    }
  }

  /** Starts work when there is room for it, and does not wait for its end. */
  async #begin(request: Request, bytes: number, work: () => Promise<void>): Promise<void> {
    await this.#budget.take(bytes);
    void this.#fenced(request, work).finally(() => this.#budget.give(bytes));
  }

  /** Whatever fails is the answer. */
  async #fenced(request: Request, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#options.onError(`command ${request.command} at ${request.offset} of ${this.#export.name}`, error);
      await this.#replies.error(request, errorFor(error), messageOf(error));
    }
  }

  async #answer(request: Request): Promise<void> {
    const refusal = refusalOf(request, this.#scene);
    if (refusal !== undefined) return await this.#replies.error(request, refusal.error, refusal.message);
    const { image } = this.#export;
    if (request.command === COMMAND.read) return await this.#read(request);
    if (request.command === COMMAND.blockStatus) return await this.#status(request);
    if (isWritable(image)) await this.#change(request, image);
    await this.#replies.done(request); // of a read-only image: a flush, or a hint
  }

  async #change({ command, flags, offset, length }: Request, image: WritableImage): Promise<void> {
    if (command === COMMAND.trim || command === COMMAND.writeZeroes) await image.zero?.(offset, length);
    if (command === COMMAND.flush || (flags & COMMAND_FLAG.fua) !== 0) await image.flush();
  }

  /** What a request takes of memory until it is answered. */
  #costOf(request: Request): number {
    if (request.command !== COMMAND.read) return 0;
    return Math.min(request.length, this.#isWhole(request) ? MAX_PAYLOAD_BYTES : PIECE_BYTES);
  }

  /** Whether the data of a read must be sent in one. */
  #isWhole({ flags }: Request): boolean {
    return !this.#replies.isStructured || (flags & COMMAND_FLAG.df) !== 0;
  }

  async #read(request: Request): Promise<void> {
    if (request.length === 0) return await this.#replies.done(request);
    if (this.#isWhole(request)) return await this.#withData(request, (bytes) => this.#replies.whole(request, bytes));
    const pieces = await this.#pieces(request);
    for (const [i, piece] of pieces.entries()) {
      const isLast = i === pieces.length - 1;
      if (piece.isZero) await this.#replies.hole(request.cookie, piece, isLast);
      else await this.#withData(piece, (bytes) => this.#replies.data({ cookie: request.cookie, offset: piece.offset }, bytes, isLast));
    }
  }

  async #withData({ offset, length }: Pick<Request, 'offset' | 'length'>, send: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    const buffer = this.#options.buffers.take(length);
    try {
      await this.#export.image.read(buffer, offset, this.#cursor);
      await send(buffer);
    } finally {
      this.#options.buffers.give(buffer);
    }
  }

  async #pieces({ offset, length }: Request): Promise<Piece[]> {
    const pieces: Piece[] = [];
    let at = offset;
    for await (const run of this.#runs(offset, length)) {
      for (const end = at + run.length; at < end; at += pieces.at(-1)?.length ?? run.length)
        pieces.push({ offset: at, length: run.isZero ? run.length : Math.min(PIECE_BYTES, end - at), isZero: run.isZero });
    }
    return pieces;
  }

  /** What is known of a range, neighbours of one kind joined. */
  async *#runs(offset: number, length: number): AsyncGenerator<{ readonly length: number; readonly isZero: boolean }> {
    const { image } = this.#export;
    if (image.extents === undefined) return yield { length, isZero: false };
    let joined: { length: number; isZero: boolean } | undefined;
    for await (const extent of image.extents(offset, length)) {
      const fits = joined?.isZero === extent.isZero && joined.length + extent.length <= MAX_EXTENT_BYTES;
      if (joined !== undefined && fits) joined.length += extent.length;
      else {
        if (joined !== undefined) yield joined;
        joined = { ...extent };
      }
    }
    if (joined !== undefined) yield joined;
  }

  async #status(request: Request): Promise<void> {
    const limit = (request.flags & COMMAND_FLAG.reqOne) !== 0 ? 1 : MAX_EXTENTS;
    const extents: Extent[] = [];
    for await (const { length, isZero } of this.#runs(request.offset, request.length)) {
      extents.push({ length, flags: isZero ? ALLOCATION.hole | ALLOCATION.zero : 0 });
      if (extents.length >= limit) break;
    }
    await this.#replies.status(request, extents);
  }

  /** The data of a write comes with it, and is taken from the stream whatever becomes of it. */
  async #takeWrite(request: Request): Promise<void> {
    if (request.length > MAX_PAYLOAD_BYTES) throw protocolError(`a write of ${request.length} bytes; ${MAX_PAYLOAD_BYTES} are the most`);
    const refusal = refusalOf(request, this.#scene);
    const { image } = this.#export;
    const writes: Promise<void>[] = [];
    for (let done = 0; done < request.length; ) {
      const length = Math.min(PIECE_BYTES, request.length - done);
      const offset = request.offset + done;
      await this.#budget.take(length);
      const bytes = await this.#stream.read(length);
      const write = bytes !== undefined && refusal === undefined && isWritable(image) ? image.write(bytes, offset) : Promise.resolve();
      const given = write.finally(() => this.#budget.give(length));
      given.catch(() => undefined); // told below, when the rest of the data has come
      writes.push(given);
      done += length;
    }
    const all = Promise.all(writes);
    all.catch(() => undefined); // told below
    await this.#begin(request, 0, async () => {
      await all;
      if (refusal !== undefined) return await this.#replies.error(request, refusal.error, refusal.message);
      if ((request.flags & COMMAND_FLAG.fua) !== 0 && isWritable(image)) await image.flush();
      await this.#replies.done(request);
    });
  }
}

function errorFor(error: unknown): number {
  return error instanceof TimebandError && error.code === 'NO_SPACE' ? NBD_ERROR.ENOSPC : NBD_ERROR.EIO;
}
