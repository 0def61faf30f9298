/** The server's side of the NBD handshake: from the greeting until a client has chosen an export. */
import { TimebandError } from '../../../bands/errors.ts';
import {
  CLIENT_FLAGS_BYTES,
  decodeClientFlags,
  decodeExportRequest,
  decodeMetaContextRequest,
  decodeOptionHeader,
  type ExportInfo,
  encodeExportInfo,
  encodeExportReply,
  encodeGreeting,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerListing,
  OPTION_HEADER_BYTES,
} from '../handshake-codec.ts';
import { BASE_ALLOCATION, HANDSHAKE_FLAG, INFO, MAX_PAYLOAD_BYTES, OPTION, OPTION_ERROR, OPTION_REPLY } from '../protocol.ts';
import { protocolError } from '../wire.ts';
import type { ClientStream } from './client-stream.ts';
import { exportFlags, findExport, type ServedExport } from './served-export.ts';

const SERVER_FLAGS = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes;
/** A client that asks for more than this wants no export. */
const MAX_OPTIONS = 1024;
/** The namespace of the contexts that are here, as a query for all of it. */
const BASE_NAMESPACE = 'base:';
const PREFERRED_BYTES = 131_072;
/** What `base:allocation` is called in the replies. */
export const ALLOCATION_ID = 1;

/** What a client and the server have agreed on. */
export interface Agreement {
  readonly export: ServedExport;
  readonly isStructured: boolean;
  /** Whether the client asked for `base:allocation`. */
  readonly hasAllocation: boolean;
}

/**
 * Answers options until the client enters an export.
 * @returns undefined if it goes away instead @throws TimebandError SOURCE_INVALID if it does not speak NBD
 */
export async function negotiateWithClient(stream: ClientStream, exports: readonly ServedExport[]): Promise<Agreement | undefined> {
  void stream.write(encodeGreeting(SERVER_FLAGS));
  const bytes = await stream.read(CLIENT_FLAGS_BYTES);
  if (bytes === undefined) return undefined;
  const flags = decodeClientFlags(bytes);
  if ((flags & ~SERVER_FLAGS) !== 0) throw protocolError(`handshake flags ${flags}, which were not offered`);
  return await new Dialogue(stream, exports, (flags & HANDSHAKE_FLAG.noZeroes) === 0).run();
}

class Dialogue {
  readonly #stream: ClientStream;
  readonly #exports: readonly ServedExport[];
  readonly #hasZeroes: boolean;
  #isStructured = false;
  /** The export for which `base:allocation` was selected. */
  #allocationOf: ServedExport | undefined;
  #agreement: Agreement | undefined;

  constructor(stream: ClientStream, exports: readonly ServedExport[], hasZeroes: boolean) {
    this.#stream = stream;
    this.#exports = exports;
    this.#hasZeroes = hasZeroes;
  }

  async run(): Promise<Agreement | undefined> {
    for (let i = 0; i < MAX_OPTIONS; i++) {
      const header = await this.#stream.read(OPTION_HEADER_BYTES);
      if (header === undefined) return undefined;
      const { option, length } = decodeOptionHeader(header);
      const data = await this.#stream.read(length);
      if (data === undefined) return undefined;
      await this.#answer(option, data);
      if (this.#agreement !== undefined) return this.#agreement;
      if (option === OPTION.abort || option === OPTION.exportName) return undefined;
    }
    throw protocolError(`more than ${MAX_OPTIONS} options`);
  }

  async #answer(option: number, data: Uint8Array): Promise<void> {
    if (option === OPTION.exportName) return await this.#enterByName(new TextDecoder().decode(data));
    try {
      const replies = this.#repliesTo(option, data).map((reply) => encodeOptionReply(option, reply.type, reply.data));
      await this.#stream.write(...replies);
    } catch (error) {
      if (!(error instanceof TimebandError)) throw error;
      await this.#stream.write(encodeOptionReply(option, OPTION_ERROR.invalid, new TextEncoder().encode(error.message)));
    }
  }

  #repliesTo(option: number, data: Uint8Array): readonly Reply[] {
    switch (option) {
      case OPTION.abort:
        return [ACK];
      case OPTION.list:
        if (data.length > 0) throw protocolError('a request for the list of exports with data');
        return [...this.#exports.map(({ name, description }) => server(name, description)), ACK];
      case OPTION.info:
      case OPTION.go:
        return this.#describe(data, option === OPTION.go);
      case OPTION.structuredReply:
        if (data.length > 0) throw protocolError('a request for structured replies with data');
        this.#isStructured = true;
        return [ACK];
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        return this.#contexts(data, option === OPTION.setMetaContext);
      default:
        return [{ type: OPTION_ERROR.unsupported }];
    }
  }

  #describe(data: Uint8Array, isEntering: boolean): readonly Reply[] {
    const request = decodeExportRequest(data);
    const chosen = findExport(this.#exports, request.exportName);
    if (chosen === undefined) return [unknownExport(request.exportName)];
    const infos: Exclude<ExportInfo, { kind: 'other' }>[] = [
      { kind: 'export', sizeBytes: chosen.image.sizeBytes, flags: exportFlags(chosen, this.#isStructured) },
      { kind: 'block size', minimum: 1, preferred: PREFERRED_BYTES, maximum: MAX_PAYLOAD_BYTES },
    ];
    if (request.infos.includes(INFO.name)) infos.push({ kind: 'name', text: chosen.name });
    if (request.infos.includes(INFO.description)) infos.push({ kind: 'description', text: chosen.description });
    if (isEntering) this.#agreement = this.#agreeOn(chosen);
    return [...infos.map((info) => ({ type: OPTION_REPLY.info, data: encodeExportInfo(info) })), ACK];
  }

  #contexts(data: Uint8Array, isSelecting: boolean): readonly Reply[] {
    if (isSelecting) this.#allocationOf = undefined;
    const { exportName, queries } = decodeMetaContextRequest(data);
    if (isSelecting && !this.#isStructured) throw protocolError('metadata contexts without structured replies');
    const chosen = findExport(this.#exports, exportName);
    if (chosen === undefined) return [unknownExport(exportName)];
    const isAskedFor = queries.includes(BASE_ALLOCATION) || (!isSelecting && (queries.length === 0 || queries.includes(BASE_NAMESPACE)));
    if (!isAskedFor) return [ACK];
    if (isSelecting) this.#allocationOf = chosen;
    const context = encodeMetaContext({ id: isSelecting ? ALLOCATION_ID : 0, name: BASE_ALLOCATION });
    return [{ type: OPTION_REPLY.metaContext, data: context }, ACK];
  }

  /** The oldest way in, which can say no only by hanging up. */
  async #enterByName(name: string): Promise<void> {
    const chosen = findExport(this.#exports, name);
    if (chosen === undefined) return;
    await this.#stream.write(encodeExportReply(chosen.image.sizeBytes, exportFlags(chosen, this.#isStructured), this.#hasZeroes));
    this.#agreement = this.#agreeOn(chosen);
  }

  #agreeOn(chosen: ServedExport): Agreement {
    return { export: chosen, isStructured: this.#isStructured, hasAllocation: this.#allocationOf === chosen };
  }
}

interface Reply {
  readonly type: number;
  readonly data?: Uint8Array;
}

const ACK: Reply = { type: OPTION_REPLY.ack };

function server(exportName: string, details: string): Reply {
  return { type: OPTION_REPLY.server, data: encodeServerListing({ exportName, details }) };
}

function unknownExport(name: string): Reply {
  return { type: OPTION_ERROR.unknownExport, data: new TextEncoder().encode(`there is no export "${name}"`) };
}
