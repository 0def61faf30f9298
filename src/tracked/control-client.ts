/** A sync's side of the socket of a tracked image. */
import { connect, type Socket } from 'node:net';
import { errnoOf, ioError, TimebandError } from '../../bands/errors.ts';
import { fromWireError } from '../../bands/workers/tasks.ts';
import { type ControlAnswer, type ControlName, type ControlTasks, encodeLine, LineReader } from './control-protocol.ts';
import { socketIn } from './socket-path.ts';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export class ControlClient {
  readonly #socket: Socket;
  /** Requests that are not answered yet, in their order. */
  readonly #waiting: Waiting[] = [];
  readonly #reader: LineReader = new LineReader();
  #isGone = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.#end());
  }

  /** @returns undefined if no process listens there */
  static async connect(folder: string): Promise<ControlClient | undefined> {
    try {
      const { path, folder: handle } = await socketIn(folder);
      const socket = connect(path);
      try {
        await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
      } finally {
        await handle.close();
      }
      return new ControlClient(socket);
    } catch (error) {
      const errno = errnoOf(error) ?? (error instanceof TimebandError ? errnoOf(error.cause) : undefined);
      if (errno === 'ENOENT' || errno === 'ECONNREFUSED') return undefined;
      throw ioError(error, 'reach the process that serves the tracked image through', folder);
    }
  }

  #take(text: string): void {
    try {
      for (const message of this.#reader.take(text)) {
        const answer = message as ControlAnswer;
        const waiting = this.#waiting.shift();
        if ('error' in answer) waiting?.reject(fromWireError(answer.error));
        else waiting?.resolve(answer.value);
      }
    } catch {
      this.#socket.destroy();
    }
  }

  #end(): void {
    this.#isGone = true;
    for (const { reject } of this.#waiting.splice(0)) reject(goneError());
  }

  /** @throws TimebandError as the server found it; SOURCE_CHANGED if it has ended */
  async ask<Name extends ControlName>(name: Name, task: ControlTasks[Name]['task']): Promise<ControlTasks[Name]['answer']> {
    if (this.#isGone) throw goneError();
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    this.#socket.write(encodeLine({ name, task }));
    return (await answer) as ControlTasks[Name]['answer'];
  }

  /** Whether the other side is still there. */
  get isConnected(): boolean {
    return !this.#isGone;
  }

  close(): void {
    this.#socket.destroy();
  }
}

function goneError(): TimebandError {
  return new TimebandError('the process that serves the tracked image has ended. Attach the image again ("timeband track attach") and sync again.', {
    code: 'SOURCE_CHANGED',
  });
}
