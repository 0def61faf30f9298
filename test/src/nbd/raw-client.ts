/** An NBD client that sends what it is told, right or wrong, to a server of ours in this process. */
import { connect, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import { viewOf } from '../../../bands/format/bytes.ts';
import type { ReadableImage, WritableImage } from '../../../bands/store/image.ts';
import {
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeExportRequest,
  encodeMetaContextRequest,
  encodeOption,
  GREETING_BYTES,
  OPTION_REPLY_HEADER_BYTES,
} from '../../../src/nbd/handshake-codec.ts';
import { BASE_ALLOCATION, CHUNK, CHUNK_FLAG_DONE, OPTION, OPTION_ERROR_BIT, OPTION_REPLY } from '../../../src/nbd/protocol.ts';
import { ClientStream } from '../../../src/nbd/server/client-stream.ts';
import { NbdServer } from '../../../src/nbd/server/nbd-server.ts';
import {
  CHUNK_HEADER_BYTES,
  decodeChunkHeader,
  decodeErrorPayload,
  decodeHole,
  encodeRequest,
  type Request,
} from '../../../src/nbd/transmission-codec.ts';
import { workspace } from '../../support/workspace.ts';

export interface OptionAnswer {
  readonly type: number;
  readonly data: Uint8Array;
}

/** One reply, put together from its chunks. */
export interface Answer {
  /** Of an error; 0: none. */
  readonly error: number;
  readonly chunks: readonly { readonly type: number; readonly payload: Uint8Array }[];
}

export class RawClient {
  readonly socket: Socket;
  readonly #stream: ClientStream;
  #cookie = 1n;

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('error', () => undefined);
    this.#stream = new ClientStream(this.socket);
  }

  /** @throws Error if the server hangs up before */
  async take(length: number): Promise<Uint8Array> {
    const bytes = await this.#stream.read(length);
    if (bytes === undefined) throw new Error('hung up');
    return bytes;
  }

  /** Whether the server hangs up without another word. */
  async isHungUp(): Promise<boolean> {
    return (await this.#stream.read(1)) === undefined;
  }

  async greet(flags = 3): Promise<void> {
    await this.take(GREETING_BYTES);
    this.send(encodeClientFlags(flags));
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Sends an option, and gives all its replies. */
  async option(option: number, data?: Uint8Array): Promise<OptionAnswer[]> {
    this.send(encodeOption(option, data));
    const answers: OptionAnswer[] = [];
    for (;;) {
      const header = decodeOptionReplyHeader(await this.take(OPTION_REPLY_HEADER_BYTES));
      if (header.option !== option) throw new Error(`an answer to ${header.option}`);
      answers.push({ type: header.type, data: await this.take(header.length) });
      if (header.type === OPTION_REPLY.ack || header.type >= OPTION_ERROR_BIT) return answers;
    }
  }

  /** Goes all the way into an export. */
  async enter(exportName = '', isStructured = true): Promise<void> {
    await this.greet();
    if (isStructured) {
      await this.option(OPTION.structuredReply);
      await this.option(OPTION.setMetaContext, encodeMetaContextRequest({ exportName, queries: [BASE_ALLOCATION] }));
    }
    await this.option(OPTION.go, encodeExportRequest({ exportName, infos: [] }));
  }

  ask(request: Partial<Request>, data?: Uint8Array): bigint {
    const cookie = this.#cookie++;
    this.send(encodeRequest({ flags: 0, command: 0, offset: 0, length: 0, cookie, ...request }));
    if (data !== undefined) this.send(data);
    return cookie;
  }

  /** Sends a request and waits for its structured reply. */
  async request(request: Partial<Request>, data?: Uint8Array): Promise<Answer> {
    const cookie = this.ask(request, data);
    const { answer, cookie: answered } = await this.answer();
    if (answered !== cookie) throw new Error('an answer to another request');
    return answer;
  }

  /** The next structured reply, whose chunks come one behind the other. */
  async answer(): Promise<{ readonly cookie: bigint; readonly answer: Answer }> {
    const chunks: { type: number; payload: Uint8Array }[] = [];
    let error = 0;
    for (;;) {
      const header = decodeChunkHeader((await this.take(CHUNK_HEADER_BYTES)).subarray(4));
      const payload = await this.take(header.length);
      chunks.push({ type: header.type, payload });
      if (header.type === CHUNK.error) error = decodeErrorPayload(payload).error;
      if ((header.flags & CHUNK_FLAG_DONE) !== 0) return { cookie: header.cookie, answer: { error, chunks } };
    }
  }
}

/** The bytes of a read's answer. */
export function dataOf({ chunks }: Answer, offset: number, length: number): Uint8Array {
  const out = new Uint8Array(length).fill(0xee);
  for (const { type, payload } of chunks) {
    if (type === CHUNK.offsetHole) {
      const hole = decodeHole(payload);
      out.fill(0, hole.offset - offset, hole.offset - offset + hole.length);
    } else if (type === CHUNK.offsetData) out.set(payload.subarray(8), Number(viewOf(payload).getBigUint64(0)) - offset);
  }
  return out;
}

export interface ServedRig {
  readonly socket: string;
  readonly server: NbdServer;
  readonly errors: string[];
  client(): RawClient;
}

/** Serves images under the names "0", "1", … until the test ends. */
export async function serveImages(t: ExecutionContext, ...images: readonly (ReadableImage | WritableImage)[]): Promise<ServedRig> {
  const socket = workspace(t).at('s');
  const errors: string[] = [];
  const exports = images.map((image, i) => ({ name: String(i), description: `image ${i}`, image }));
  const server = await NbdServer.listen({ socket, exports, onError: (what, error) => errors.push(`${what}: ${String(error)}`) });
  const clients: RawClient[] = [];
  t.teardown(async () => {
    for (const client of clients) client.socket.destroy();
    await server.close();
  });
  return {
    socket,
    server,
    errors,
    client() {
      const client = new RawClient(socket);
      clients.push(client);
      return client;
    },
  };
}
