/**
 * An NBD server on a Unix socket that only its owner may use: fixed newstyle handshake, structured replies,
 * `base:allocation`. Clients are not trusted: what breaks the protocol ends that client's connection and nothing else.
 */
import { lstat, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { errnoOf, ioError, TimebandError } from '../../../bands/errors.ts';
import { SpareBuffers } from '../../../bands/store/spare-buffers.ts';
import { MAX_SOCKET_PATH_BYTES } from '../nbd-address.ts';
import { ClientStream } from './client-stream.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import type { ServedExport } from './served-export.ts';
import { negotiateWithClient } from './server-handshake.ts';

const MAX_CONNECTIONS = 64;
/** A client that has not chosen an export by then is hung up on. */
const HANDSHAKE_MS = 30_000;
/** What a client that is done, or hung up on, has for taking the last answers. */
const CLOSE_MS = 5000;
const SPARE_BYTES = 16_777_216;
const OWNER_ONLY_UMASK = 0o177;

export interface NbdServerOptions {
  readonly socket: string;
  readonly exports: readonly ServedExport[];
  readonly onError: ConnectionOptions['onError'];
}

export class NbdServer {
  readonly #server: Server;
  readonly #options: NbdServerOptions;
  readonly #buffers = new SpareBuffers(SPARE_BYTES);
  readonly #clients = new Map<Socket, Promise<void>>();

  private constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /**
   * Listens. A socket that a killed server left is replaced.
   * @throws TimebandError TARGET_EXISTS, LOCKED (another server listens there), USAGE, IO_ERROR
   */
  static async listen(options: NbdServerOptions): Promise<NbdServer> {
    await makeRoom(options.socket);
    const server = new NbdServer(options);
    const umask = process.umask(OWNER_ONLY_UMASK);
    try {
      await new Promise<void>((resolve, reject) => {
        server.#server.once('error', reject);
        server.#server.listen(options.socket, resolve); // binds in this turn
        process.umask(umask);
      });
    } catch (error) {
      process.umask(umask);
      throw ioError(error, 'listen at', options.socket);
    }
    server.#server.on('error', (error) => options.onError('accepting a connection', error));
    return server;
  }

  #accept(socket: Socket): void {
    const serving = this.#serve(socket).finally(() => this.#clients.delete(socket));
    this.#clients.set(socket, serving);
  }

  async #serve(socket: Socket): Promise<void> {
    const { exports, onError } = this.#options;
    socket.on('error', () => undefined); // a client that went away is no fault
    const stream = new ClientStream(socket);
    const late = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
    try {
      const agreement = await negotiateWithClient(stream, exports);
      clearTimeout(late);
      if (agreement !== undefined) await new Connection(stream, agreement, { buffers: this.#buffers, onError }).run();
    } catch (error) {
      onError('a client', error);
    } finally {
      clearTimeout(late);
      await stream.close(CLOSE_MS);
    }
  }

  /** Hangs up on all clients, and takes the socket away. What was under way has ended then. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#clients.keys()) socket.destroy();
    await Promise.all(this.#clients.values());
    await closed;
  }
}

/** Takes away a socket on which nobody listens any more. */
async function makeRoom(socket: string): Promise<void> {
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH_BYTES)
    throw new TimebandError(`${socket}: the path of a socket can have ${MAX_SOCKET_PATH_BYTES} bytes at most; name it by a shorter one.`, {
      code: 'USAGE',
      path: socket,
    });
  try {
    if (!(await lstat(socket)).isSocket())
      throw new TimebandError(`${socket} exists and is no socket; name another place.`, { code: 'TARGET_EXISTS', path: socket });
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'look at', socket);
    return await checkFolder(path.dirname(socket));
  }
  if (await isAnswered(socket))
    throw new TimebandError(`another server listens at ${socket}. End it first, or name another place.`, { code: 'LOCKED', path: socket });
  await rm(socket, { force: true });
}

/** Node calls a folder that is missing one that may not be entered. */
async function checkFolder(folder: string): Promise<void> {
  try {
    await lstat(folder);
  } catch (error) {
    throw ioError(error, 'make a socket in', folder);
  }
}

function isAnswered(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => resolve(errnoOf(error) !== 'ECONNREFUSED'));
  });
}
