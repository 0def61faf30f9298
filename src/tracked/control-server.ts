/** The socket of a tracked image, through which syncs freeze it. It lies in a folder that only its owner can enter. */
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { toWireError } from '../../bands/workers/tasks.ts';
import { type ControlAnswer, type ControlName, type ControlTasks, encodeLine, LineReader, SOCKET_NAME } from './control-protocol.ts';
import type { FrozenPoint } from './frozen-point.ts';
import { socketIn } from './socket-path.ts';
import type { TrackedImage } from './tracked-image.ts';

export class ControlServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(image: TrackedImage): Promise<ControlServer> {
    const { path: address, folder } = await socketIn(image.folder);
    const server = createServer();
    const control = new ControlServer(server);
    server.on('connection', (socket) => control.#serve(image, socket));
    server.once('close', () => void folder.close());
    try {
      await rm(path.join(image.folder, SOCKET_NAME), { force: true }); // of a process that was killed: the image is ours alone
      await new Promise<void>((resolve, reject) => server.once('error', reject).listen(address, resolve));
      return control;
    } catch (error) {
      await folder.close();
      throw ioError(error, 'listen in', image.folder);
    }
  }

  #serve(image: TrackedImage, socket: Socket): void {
    const conversation = new Conversation(image);
    const reader = new LineReader();
    let last = Promise.resolve();
    this.#sockets.add(socket);
    socket.setEncoding('utf8').on('data', (text: string) => {
      try {
        for (const message of reader.take(text)) {
          last = last.then(async () => void socket.write(encodeLine(await conversation.answer(message))));
        }
      } catch {
        socket.destroy(); // whoever sends such things is no sync of ours
      }
    });
    socket.on('error', () => socket.destroy());
    socket.once('close', () => {
      this.#sockets.delete(socket);
      void last.then(() => conversation.end());
    });
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

type Handlers = { readonly [Name in ControlName]: (task: ControlTasks[Name]['task']) => Promise<ControlTasks[Name]['answer']> };

/** With one sync. */
class Conversation {
  readonly #image: TrackedImage;
  readonly #handlers: Handlers;
  /** That this sync asked for. */
  #frozen: FrozenPoint | undefined;

  constructor(image: TrackedImage) {
    this.#image = image;
    this.#handlers = {
      freeze: async ({ isDryRun }) => {
        this.#frozen = await image.freeze(isDryRun);
        return { image: image.path, identity: image.identity, sizeBytes: image.sizeBytes, aside: this.#frozen.asidePath };
      },
      changes: ({ token }) => {
        const changes = image.changesSince(token);
        return Promise.resolve('reason' in changes ? changes : { bitmap: Buffer.from(changes.dirty.encode()).toString('base64') });
      },
      parts: (range) => Promise.resolve({ parts: this.#requireFrozen().partsWithin(range) }),
      bind: async ({ token }) => {
        this.#requireFrozen();
        await image.bind(token);
        return null;
      },
      keepOnly: async ({ token }) => {
        await image.keepOnly(token);
        return null;
      },
      forget: async ({ owner }) => ({ sessions: await image.forget(owner) }),
      thaw: async () => {
        await this.end();
        return null;
      },
      status: () => {
        const { sessions, asideBytes } = image.describe();
        const { path: location, sizeBytes, doubt } = image;
        return Promise.resolve({ image: location, sizeBytes, sessions, asideBytes: asideBytes ?? null, doubt: doubt ?? null });
      },
    };
  }

  #requireFrozen(): FrozenPoint {
    if (this.#frozen !== undefined) return this.#frozen;
    throw new TimebandError('nothing is frozen for this connection', { code: 'SOURCE_CHANGED' });
  }

  async answer(message: unknown): Promise<ControlAnswer> {
    try {
      const { name, task } = message as { readonly name: ControlName; readonly task: never };
      const handler = Object.hasOwn(this.#handlers, name) ? this.#handlers[name] : undefined;
      if (handler === undefined)
        throw new TimebandError(`the request "${name}" is not known: the image was attached by another version`, { code: 'UNSUPPORTED' });
      return { value: await handler(task) };
    } catch (error) {
      return { error: toWireError(ioError(error, 'serve', this.#image.path)) };
    }
  }

  /** Lets go of what this sync froze. */
  async end(): Promise<void> {
    if (this.#frozen === undefined) return;
    this.#frozen = undefined;
    await this.#image.thaw();
  }
}
