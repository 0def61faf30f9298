/** The client's side of the NBD handshake: from the greeting to an export that can be read. */
import { TimebandError } from '../../../bands/errors.ts';
import {
  decodeExportInfo,
  decodeGreeting,
  decodeMetaContext,
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeExportRequest,
  encodeMetaContextRequest,
  encodeOption,
  GREETING_BYTES,
  OPTION_REPLY_HEADER_BYTES,
} from '../handshake-codec.ts';
import { DIRTY_BITMAP_PREFIX, HANDSHAKE_FLAG, INFO, MAX_PAYLOAD_BYTES, OPTION, OPTION_ERROR, OPTION_ERROR_BIT, OPTION_REPLY } from '../protocol.ts';
import { protocolError } from '../wire.ts';
import type { SocketStream } from './socket-stream.ts';

/** A server that answers one option more often than this does not mean well. */
const MAX_REPLIES = 1024;
const MAX_MINIMUM_BLOCK_BYTES = 65_536;

export interface NbdExport {
  readonly sizeBytes: number;
  readonly flags: number;
  readonly isStructured: boolean;
  /** The selected metadata contexts by the number that replies carry. */
  readonly contexts: ReadonlyMap<number, string>;
  /** QEMU bitmaps that the server has, if one was asked for that it has not. */
  readonly offeredBitmaps: readonly string[];
  /** Requests begin and end at multiples of this. */
  readonly minimumBlockBytes: number;
  /** No request is larger. */
  readonly maximumBytes: number;
}

export interface Wish {
  readonly exportName: string;
  /** Metadata contexts; those that the server has not are left out. */
  readonly contexts: readonly string[];
}

interface OptionReply {
  readonly type: number;
  readonly data: Uint8Array;
}

/** @throws TimebandError SOURCE_INVALID, SOURCE_NOT_FOUND, SOURCE_UNREADABLE, UNSUPPORTED, TOOL_FAILED */
export async function negotiate(stream: SocketStream, wish: Wish): Promise<NbdExport> {
  const flags = decodeGreeting(await stream.read(GREETING_BYTES));
  if ((flags & HANDSHAKE_FLAG.fixedNewstyle) === 0)
    throw new TimebandError(`the NBD server at ${stream.where} does not speak the fixed newstyle handshake; use a newer server.`, {
      code: 'UNSUPPORTED',
    });
  stream.write(encodeClientFlags(HANDSHAKE_FLAG.fixedNewstyle | (flags & HANDSHAKE_FLAG.noZeroes)));
  const dialogue = new Dialogue(stream, wish);
  const isStructured = await dialogue.askForStructuredReplies();
  const contexts = isStructured && wish.contexts.length > 0 ? await dialogue.selectContexts() : new Map<number, string>();
  const isBitmapMissing =
    isStructured && wish.contexts.some((name) => name.startsWith(DIRTY_BITMAP_PREFIX) && ![...contexts.values()].includes(name));
  const offeredBitmaps = isBitmapMissing ? await dialogue.listBitmaps() : [];
  return { ...(await dialogue.enterExport()), isStructured, contexts, offeredBitmaps };
}

class Dialogue {
  readonly #stream: SocketStream;
  readonly #wish: Wish;

  constructor(stream: SocketStream, wish: Wish) {
    this.#stream = stream;
    this.#wish = wish;
  }

  /** The replies to an option up to its acknowledgement or error, which is the last of them. */
  async *#ask(option: number, data?: Uint8Array): AsyncGenerator<OptionReply> {
    this.#stream.write(encodeOption(option, data));
    for (let i = 0; i < MAX_REPLIES; i++) {
      const header = decodeOptionReplyHeader(await this.#stream.read(OPTION_REPLY_HEADER_BYTES));
      if (header.option !== option) throw protocolError(`an answer to option ${header.option}, when ${option} was asked`);
      const reply = { type: header.type, data: await this.#stream.read(header.length) };
      yield reply;
      if (reply.type === OPTION_REPLY.ack || isError(reply)) return;
    }
    throw protocolError(`more than ${MAX_REPLIES} answers to one option`);
  }

  async askForStructuredReplies(): Promise<boolean> {
    for await (const reply of this.#ask(OPTION.structuredReply)) {
      if (reply.type === OPTION_REPLY.ack) return true;
      this.#throwUnlessUnsupported(reply);
    }
    return false;
  }

  async selectContexts(): Promise<Map<number, string>> {
    const { contexts: queries } = this.#wish;
    const selected = new Map<number, string>();
    const data = encodeMetaContextRequest({ exportName: this.#wish.exportName, queries });
    for await (const reply of this.#ask(OPTION.setMetaContext, data)) {
      if (reply.type === OPTION_REPLY.ack) return selected;
      if (reply.type !== OPTION_REPLY.metaContext) {
        this.#throwUnlessUnsupported(reply);
        continue;
      }
      const { id, name } = decodeMetaContext(reply.data);
      if (!queries.includes(name) || selected.has(id) || [...selected.values()].includes(name))
        throw protocolError(`the server selected the metadata context "${name}" (${id}), which was not asked for so`);
      selected.set(id, name);
    }
    return new Map();
  }

  async listBitmaps(): Promise<string[]> {
    const names: string[] = [];
    const data = encodeMetaContextRequest({ exportName: this.#wish.exportName, queries: [DIRTY_BITMAP_PREFIX] });
    for await (const reply of this.#ask(OPTION.listMetaContext, data)) {
      if (reply.type === OPTION_REPLY.metaContext) names.push(decodeMetaContext(reply.data).name.slice(DIRTY_BITMAP_PREFIX.length));
    }
    return names;
  }

  async enterExport(): Promise<Pick<NbdExport, 'sizeBytes' | 'flags' | 'minimumBlockBytes' | 'maximumBytes'>> {
    let found: { sizeBytes: number; flags: number } | undefined;
    let blocks = { minimumBlockBytes: 1, maximumBytes: MAX_PAYLOAD_BYTES };
    const data = encodeExportRequest({ exportName: this.#wish.exportName, infos: [INFO.blockSize] });
    for await (const reply of this.#ask(OPTION.go, data)) {
      if (reply.type === OPTION_REPLY.ack) break;
      if (reply.type !== OPTION_REPLY.info) throw this.#refusal(reply);
      const info = decodeExportInfo(reply.data);
      if (info.kind === 'export') found = { sizeBytes: info.sizeBytes, flags: info.flags };
      if (info.kind === 'block size') blocks = checkBlockSizes(info.minimum, info.maximum);
    }
    if (found === undefined) throw protocolError('the server did not say how large its export is');
    return { ...found, ...blocks };
  }

  #throwUnlessUnsupported(reply: OptionReply): void {
    if (reply.type !== OPTION_ERROR.unsupported && reply.type !== OPTION_ERROR.policy && reply.type !== OPTION_ERROR.platform)
      throw this.#refusal(reply);
  }

  #refusal({ type, data }: OptionReply): TimebandError {
    const { where } = this.#stream;
    const said = new TextDecoder().decode(data.subarray(0, 1024));
    const tail = said === '' ? '' : `: ${said}`;
    if (type === OPTION_ERROR.tlsRequired)
      return new TimebandError(`the NBD server at ${where} demands TLS, which Timeband does not speak. Use a Unix socket, or a tunnel.`, {
        code: 'UNSUPPORTED',
        path: where,
      });
    if (type === OPTION_ERROR.unknownExport)
      return new TimebandError(`the NBD server at ${where} has no export "${this.#wish.exportName}"${tail}. "qemu-nbd --list" shows those it has.`, {
        code: 'SOURCE_NOT_FOUND',
        path: where,
      });
    if (!isError({ type })) return protocolError(`an answer of type ${type}, which does not belong to what was asked`);
    return new TimebandError(`the NBD server at ${where} refused the export "${this.#wish.exportName}" (0x${type.toString(16)})${tail}.`, {
      code: type === OPTION_ERROR.unsupported ? 'UNSUPPORTED' : 'SOURCE_UNREADABLE',
      path: where,
    });
  }
}

function isError({ type }: Pick<OptionReply, 'type'>): boolean {
  return type >= OPTION_ERROR_BIT;
}

function checkBlockSizes(minimum: number, maximum: number): { minimumBlockBytes: number; maximumBytes: number } {
  const isPowerOfTwo = minimum > 0 && (minimum & (minimum - 1)) === 0;
  if (!isPowerOfTwo || minimum > MAX_MINIMUM_BLOCK_BYTES || maximum < minimum) throw protocolError(`block sizes from ${minimum} to ${maximum} bytes`);
  const most = Math.min(maximum, MAX_PAYLOAD_BYTES);
  return { minimumBlockBytes: minimum, maximumBytes: most - (most % minimum) };
}
