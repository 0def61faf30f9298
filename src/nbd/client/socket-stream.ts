/** The bytes of a socket in the order of their coming, for one reader that says how many it wants. */
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf, messageOf, TimebandError } from '../../../bands/errors.ts';
import { describeEndpoint, MAX_SOCKET_PATH_BYTES, type NbdEndpoint } from '../nbd-address.ts';

/** What one call of the kernel may fill; it is then copied to where it belongs. */
const RECEIVE_BYTES = 1_048_576;
/** How long a connection may take to come up, and to be closed. */
const CONNECT_MS = 30_000;
const CLOSE_MS = 1000;
const NOTHING = new Uint8Array(0);

interface Wanted {
  readonly out: Uint8Array;
  filled: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class SocketStream {
  /** For messages. */
  readonly where: string;
  readonly #socket: Socket;
  readonly #closed: Promise<void>;
  /** What came and was not asked for yet; the socket rests as long as there is any. */
  #left: Uint8Array = NOTHING;
  #wanted: Wanted | undefined;
  #failure: TimebandError | undefined;

  private constructor(endpoint: NbdEndpoint) {
    this.where = describeEndpoint(endpoint);
    const onread = { buffer: new Uint8Array(RECEIVE_BYTES), callback: (length: number, bytes: Uint8Array) => this.#take(bytes.subarray(0, length)) };
    this.#socket = connect({ ...('socket' in endpoint ? { path: endpoint.socket } : endpoint), onread });
    this.#closed = new Promise((resolve) => this.#socket.once('close', () => resolve()));
    this.#socket.on('error', (error) => this.fail(wentAway(this.where, error)));
    this.#socket.on('close', () => this.fail(wentAway(this.where)));
    this.#socket.on('end', () => this.fail(wentAway(this.where)));
    this.#socket.on('timeout', () => this.fail(silent(this.where, this.#socket.timeout ?? 0)));
  }

  /** @throws TimebandError SOURCE_NOT_FOUND, PERMISSION_DENIED, IO_ERROR */
  static async connect(endpoint: NbdEndpoint): Promise<SocketStream> {
    if ('socket' in endpoint && Buffer.byteLength(endpoint.socket) > MAX_SOCKET_PATH_BYTES) {
      throw new TimebandError(`${endpoint.socket}: the path of a socket can have ${MAX_SOCKET_PATH_BYTES} bytes at most; name it by a shorter one.`, {
        code: 'USAGE',
        path: endpoint.socket,
      });
    }
    const stream = new SocketStream(endpoint);
    const up = new Promise<void>((resolve, reject) => {
      stream.#socket.once('connect', resolve);
      stream.#socket.once('error', (error) => reject(unreachable(stream.where, error)));
    });
    const abort = new AbortController();
    const late = delay(CONNECT_MS, undefined, { signal: abort.signal }).then(
      () => Promise.reject(silent(stream.where, CONNECT_MS)),
      () => undefined,
    );
    try {
      await Promise.race([up, late]);
      return stream;
    } catch (error) {
      stream.#socket.destroy();
      throw error;
    } finally {
      abort.abort();
    }
  }

  #take(bytes: Uint8Array): boolean {
    this.#left = bytes;
    this.#fill();
    return this.#left.length === 0; // false: the buffer is still needed, nothing more may come into it
  }

  #fill(): void {
    const wanted = this.#wanted;
    if (wanted === undefined) return;
    const part = this.#left.subarray(0, wanted.out.length - wanted.filled);
    wanted.out.set(part, wanted.filled);
    wanted.filled += part.length;
    this.#left = this.#left.subarray(part.length);
    if (wanted.filled < wanted.out.length) return;
    this.#wanted = undefined;
    wanted.resolve();
  }

  /** Fills `out`. One call at a time. @throws TimebandError if the peer went away before */
  async readInto(out: Uint8Array): Promise<void> {
    if (this.#wanted !== undefined) throw new RangeError('readInto: one call at a time');
    if (out.length === 0) return;
    const hadSome = this.#left.length > 0;
    await new Promise<void>((resolve, reject) => {
      this.#wanted = { out, filled: 0, resolve, reject };
      if (hadSome) this.#fill();
      if (hadSome && this.#left.length === 0) this.#socket.resume();
      if (this.#wanted !== undefined && this.#failure !== undefined) this.#rejectWanted(this.#failure);
    });
  }

  /** A new array of `length` bytes. */
  async read(length: number): Promise<Uint8Array> {
    const out = new Uint8Array(length);
    await this.readInto(out);
    return out;
  }

  write(bytes: Uint8Array): void {
    if (this.#failure === undefined) this.#socket.write(bytes);
  }

  /** Fails the stream when nothing comes or goes for so long; 0: it may rest. */
  limitSilence(timeoutMs: number): void {
    this.#socket.setTimeout(timeoutMs);
  }

  /** Ends it: whoever waits gets `error`. */
  fail(error: TimebandError): void {
    this.#failure ??= error;
    this.#rejectWanted(this.#failure);
    this.#socket.destroy();
  }

  #rejectWanted(error: TimebandError): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.reject(error);
  }

  /** Sends what was written, and closes. */
  async close(): Promise<void> {
    this.#socket.end();
    this.#left = NOTHING;
    this.#socket.resume();
    const abort = new AbortController();
    await Promise.race([this.#closed, delay(CLOSE_MS, undefined, { signal: abort.signal }).catch(() => undefined)]);
    abort.abort();
    this.#socket.destroy();
  }
}

function wentAway(where: string, cause?: Error): TimebandError {
  const why = cause === undefined ? '' : ` (${messageOf(cause)})`;
  return new TimebandError(`the NBD server at ${where} went away${why}. Look at its log, start it again, and try again.`, {
    code: 'SOURCE_UNREADABLE',
    cause,
    path: where,
  });
}

function silent(where: string, timeoutMs: number): TimebandError {
  return new TimebandError(`the NBD server at ${where} has not answered for ${Math.round(timeoutMs / 1000)} seconds. Look at its log and its disk.`, {
    code: 'SOURCE_UNREADABLE',
    path: where,
  });
}

function unreachable(where: string, cause: Error): TimebandError {
  const errno = errnoOf(cause);
  const code = errno === 'ENOENT' || errno === 'ECONNREFUSED' ? 'SOURCE_NOT_FOUND' : errno === 'EACCES' ? 'PERMISSION_DENIED' : 'IO_ERROR';
  return new TimebandError(`no NBD server can be reached at ${where} (${messageOf(cause)}). Start it, or check the address.`, {
    code,
    cause,
    path: where,
  });
}
