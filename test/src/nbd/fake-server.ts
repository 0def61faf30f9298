/** An NBD server in this process that does what it is told, so that it can do wrong. */
import { createServer, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import {
  CLIENT_FLAGS_BYTES,
  decodeMetaContextRequest,
  decodeOptionHeader,
  encodeExportInfo,
  encodeGreeting,
  encodeMetaContext,
  encodeOptionReply,
  OPTION_HEADER_BYTES,
} from '../../../src/nbd/handshake-codec.ts';
import { COMMAND, OPTION, OPTION_REPLY } from '../../../src/nbd/protocol.ts';
import { decodeRequest, encodeChunkHeader, REQUEST_BYTES, type Request } from '../../../src/nbd/transmission-codec.ts';
import { workspace } from '../../support/workspace.ts';

export const EXPORT_BYTES = 1_048_576;

/** What it sends instead of the right thing; undefined: the right thing. */
export interface Script {
  readonly greeting?: Uint8Array;
  /** The answer to an option. */
  onOption?(option: number, data: Uint8Array): Uint8Array | 'hang up' | undefined;
  /** The answer to a request; undefined: none. */
  onRequest?(request: Request): Uint8Array | 'hang up' | undefined;
}

/** A chunk of a structured reply. */
export function chunk(request: Pick<Request, 'cookie'>, type: number, payload: Uint8Array, flags = 1): Uint8Array {
  return Buffer.concat([encodeChunkHeader({ flags, type, cookie: request.cookie, length: payload.length }), payload]);
}

/** Serves on a socket of its own until the test ends. @returns the socket's path */
export async function serveScript(t: ExecutionContext, script: Script): Promise<string> {
  const socket = workspace(t).at('fake.sock');
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    clients.add(client);
    client.on('error', () => undefined);
    client.write(script.greeting ?? encodeGreeting(3));
    void talk(client, script).catch(() => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => {
    for (const client of clients) client.destroy();
    server.close();
  });
  return socket;
}

async function talk(client: Socket, script: Script): Promise<void> {
  const bytes = reader(client);
  await bytes(CLIENT_FLAGS_BYTES);
  for (let isNegotiating = true; isNegotiating; ) {
    const { option, length } = decodeOptionHeader(await bytes(OPTION_HEADER_BYTES));
    const data = length === 0 ? new Uint8Array(0) : await bytes(length);
    const answer = script.onOption?.(option, data) ?? rightAnswer(option, data);
    if (answer === 'hang up') client.destroy();
    else client.write(answer);
    isNegotiating = option !== OPTION.go;
  }
  for (;;) {
    const request = decodeRequest(await bytes(REQUEST_BYTES));
    if (request.command === COMMAND.disconnect) client.end();
    const answer = script.onRequest?.(request);
    if (answer === 'hang up') client.destroy();
    else if (answer !== undefined) client.write(answer);
  }
}

export function rightAnswer(option: number, data: Uint8Array): Uint8Array {
  const ack = encodeOptionReply(option, OPTION_REPLY.ack);
  if (option === OPTION.setMetaContext) {
    const { queries } = decodeMetaContextRequest(data);
    return Buffer.concat([...queries.map((name, id) => encodeOptionReply(option, OPTION_REPLY.metaContext, encodeMetaContext({ id, name }))), ack]);
  }
  if (option !== OPTION.go) return ack;
  const info = encodeExportInfo({ kind: 'export', sizeBytes: EXPORT_BYTES, flags: 3 });
  return Buffer.concat([encodeOptionReply(option, OPTION_REPLY.info, info), ack]);
}

function reader(client: Socket): (length: number) => Promise<Uint8Array> {
  const chunks = client[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let left: Buffer = Buffer.alloc(0);
  return async (length) => {
    while (left.length < length) {
      const { value, done } = await chunks.next();
      if (done === true) throw new Error('the client is gone');
      left = Buffer.concat([left, value]);
    }
    const taken = left.subarray(0, length);
    left = left.subarray(length);
    return taken;
  };
}
