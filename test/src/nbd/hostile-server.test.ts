/** Servers that lie, break off or say nothing: an error with a code, never a hang, never a byte beyond the buffer. */
import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../bands/errors.ts';
import { NbdClient } from '../../../src/nbd/client/nbd-client.ts';
import { encodeExportInfo, encodeMetaContext, encodeOptionReply } from '../../../src/nbd/handshake-codec.ts';
import { BASE_ALLOCATION, CHUNK, COMMAND, OPTION, OPTION_ERROR, OPTION_REPLY } from '../../../src/nbd/protocol.ts';
import {
  encodeBlockStatus,
  encodeChunkHeader,
  encodeDataOffset,
  encodeErrorPayload,
  encodeHole,
  encodeSimpleReply,
  type Request,
} from '../../../src/nbd/transmission-codec.ts';
import { codeOf } from '../../support/library.ts';
import { chunk, EXPORT_BYTES, rightAnswer, type Script, serveScript } from './fake-server.ts';

/** Long enough for a busy machine, as what is right must come in time. */
const SILENCE_MS = 1000;

async function open(t: ExecutionContext, script: Script, contexts: readonly string[] = [BASE_ALLOCATION]): Promise<NbdClient> {
  const socket = await serveScript(t, script);
  const client = await NbdClient.connect({ endpoint: { socket }, exportName: 'disk', contexts, silenceMs: SILENCE_MS });
  t.teardown(() => client.close());
  return client;
}

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const data = (request: Request, offset: number, length: number, flags = 1): Uint8Array =>
  chunk(request, CHUNK.offsetData, Buffer.concat([encodeDataOffset(offset), new Uint8Array(length).fill(7)]), flags);
const status = (request: Request, extents: readonly (readonly [number, number])[], contextId = 0): Uint8Array =>
  chunk(request, CHUNK.blockStatus, encodeBlockStatus({ contextId, extents: extents.map(([length, flags]) => ({ length, flags })) }));

const HANDSHAKES: readonly { readonly title: string; readonly script: Script; readonly code: string }[] = [
  { title: 'another greeting', script: { greeting: ascii('SSH-2.0-OpenSSH_9.2\r\n') }, code: 'SOURCE_INVALID' },
  { title: 'the old handshake', script: { greeting: Buffer.from(`4e42444d414749430000420281861253${'0'.repeat(300)}`, 'hex') }, code: 'UNSUPPORTED' },
  { title: 'no fixed newstyle', script: { greeting: Buffer.from('NBDMAGICIHAVEOPT\0\0', 'latin1') }, code: 'UNSUPPORTED' },
  { title: 'silence', script: { greeting: new Uint8Array(0) }, code: 'SOURCE_UNREADABLE' },
  { title: 'half a greeting', script: { greeting: ascii('NBDMAG') }, code: 'SOURCE_UNREADABLE' },
  { title: 'a hang-up', script: { onOption: () => 'hang up' }, code: 'SOURCE_UNREADABLE' },
  {
    title: 'a demand for TLS',
    script: { onOption: (option) => encodeOptionReply(option, OPTION_ERROR.tlsRequired, ascii('TLS first')) },
    code: 'UNSUPPORTED',
  },
  {
    title: 'no such export',
    script: { onOption: (option) => (option === OPTION.go ? encodeOptionReply(option, OPTION_ERROR.unknownExport) : undefined) },
    code: 'SOURCE_NOT_FOUND',
  },
  {
    title: 'an answer to another option',
    script: { onOption: (option) => encodeOptionReply(option + 1, OPTION_REPLY.ack) },
    code: 'SOURCE_INVALID',
  },
  { title: 'an answer of another magic', script: { onOption: () => new Uint8Array(20).fill(9) }, code: 'SOURCE_INVALID' },
  {
    title: 'an answer of 4 GiB',
    script: { onOption: () => Buffer.from('0003e88904556 5a9000000080000000 1ffffffff'.replaceAll(' ', ''), 'hex') },
    code: 'SOURCE_INVALID',
  },
  {
    title: 'contexts that were not asked for',
    script: {
      onOption: (option) =>
        option === OPTION.setMetaContext ? encodeOptionReply(option, OPTION_REPLY.metaContext, encodeMetaContext({ id: 1, name: 'x' })) : undefined,
    },
    code: 'SOURCE_INVALID',
  },
  {
    title: 'the same context for ever',
    script: {
      onOption: (option) =>
        option === OPTION.go
          ? Buffer.concat(Array.from({ length: 2000 }, () => encodeOptionReply(option, OPTION_REPLY.info, new Uint8Array([0, 2]))))
          : undefined,
    },
    code: 'SOURCE_INVALID',
  },
  {
    title: 'no size',
    script: { onOption: (option) => (option === OPTION.go ? encodeOptionReply(option, OPTION_REPLY.ack) : undefined) },
    code: 'SOURCE_INVALID',
  },
  {
    title: 'a size beyond all numbers',
    script: {
      onOption: (option) =>
        option === OPTION.go ? encodeOptionReply(option, OPTION_REPLY.info, Buffer.from(`0000${'f'.repeat(16)}0003`, 'hex')) : undefined,
    },
    code: 'SOURCE_INVALID',
  },
  ...[
    [0, 0, 0],
    [3, 512, 4096],
    [131_072, 131_072, 131_072],
    [4096, 4096, 512],
  ].map(([minimum = 0, preferred = 0, maximum = 0]) => ({
    title: `block sizes ${minimum}, ${preferred}, ${maximum}`,
    script: {
      onOption: (option: number, bytes: Uint8Array) =>
        option === OPTION.go
          ? Buffer.concat([
              encodeOptionReply(option, OPTION_REPLY.info, encodeExportInfo({ kind: 'block size', minimum, preferred, maximum })),
              rightAnswer(option, bytes),
            ])
          : undefined,
    },
    code: 'SOURCE_INVALID',
  })),
];

for (const { title, script, code } of HANDSHAKES) {
  test.serial(`a handshake with ${title} is ${code}`, async (t) => {
    t.is(await codeOf(() => open(t, script)), code);
  });
}

const READS: readonly {
  readonly title: string;
  readonly answer: (request: Request) => Uint8Array | 'hang up' | undefined;
  readonly code?: string;
}[] = [
  { title: 'nothing', answer: () => undefined, code: 'SOURCE_UNREADABLE' },
  { title: 'a hang-up', answer: () => 'hang up', code: 'SOURCE_UNREADABLE' },
  { title: 'another magic', answer: () => new Uint8Array(64).fill(1) },
  { title: 'another cookie', answer: (request) => data({ ...request, cookie: 77n }, request.offset, request.length) },
  { title: 'a simple reply', answer: ({ cookie }) => Buffer.concat([encodeSimpleReply({ error: 0, cookie }), new Uint8Array(4096)]) },
  { title: 'too few bytes', answer: (request) => data(request, request.offset, request.length - 1) },
  { title: 'too many bytes', answer: (request) => data(request, request.offset, request.length + 1) },
  { title: 'bytes from before', answer: (request) => data(request, request.offset - 1, request.length) },
  { title: 'bytes of elsewhere', answer: (request) => data(request, 0, 512) },
  { title: 'a chunk of 4 GiB', answer: ({ cookie }) => encodeChunkHeader({ flags: 1, type: CHUNK.offsetData, cookie, length: 0xffffffff }) },
  { title: 'data without bytes', answer: (request) => chunk(request, CHUNK.offsetData, encodeDataOffset(request.offset)) },
  {
    title: 'bytes twice',
    answer: (request) => Buffer.concat([data(request, request.offset, 2048, 0), data(request, request.offset + 1024, 2048, 1)]),
  },
  { title: 'a hole beyond it', answer: (request) => chunk(request, CHUNK.offsetHole, encodeHole({ offset: request.offset, length: 8192 })) },
  { title: 'a hole of another length', answer: (request) => chunk(request, CHUNK.offsetHole, new Uint8Array(13)) },
  { title: 'nothing, as done', answer: (request) => chunk(request, CHUNK.none, new Uint8Array(0)) },
  { title: 'a chunk of a type that nobody knows', answer: (request) => chunk(request, 77, new Uint8Array(4)) },
  { title: 'a block status', answer: (request) => status(request, [[4096, 0]]) },
  { title: 'an error without a number', answer: (request) => chunk(request, CHUNK.error, new Uint8Array(6)) },
  { title: 'an error of a megabyte', answer: (request) => chunk(request, CHUNK.error, new Uint8Array(1_048_576).fill(1)) },
  {
    title: 'an error with its message',
    answer: (request) => chunk(request, CHUNK.error, encodeErrorPayload({ error: 5, message: 'bad sector' })),
    code: 'SOURCE_UNREADABLE',
  },
  {
    title: 'a simple error',
    answer: ({ cookie }) => encodeSimpleReply({ error: 5, cookie }),
    code: 'SOURCE_UNREADABLE',
  },
];

for (const { title, answer, code = 'SOURCE_INVALID' } of READS) {
  test.serial(`a read that is answered with ${title} is ${code}`, async (t) => {
    const client = await open(t, { onRequest: answer });
    const room = new Uint8Array(4096 + 8192).fill(0xee);
    t.is(await codeOf(() => client.read(65_536, room.subarray(4096, 8192))), code);
    t.true(
      room.every((byte, i) => byte === 0xee || (i >= 4096 && i < 8192)),
      'nothing is written beside the buffer',
    );
  });
}

test.serial('an error that the server reports leaves the connection as it was, and carries its message', async (t) => {
  const client = await open(t, {
    onRequest: (request) =>
      request.offset === 0
        ? chunk(request, CHUNK.error, encodeErrorPayload({ error: 5, message: 'bad sector' }))
        : data(request, request.offset, request.length),
  });
  const error = await t.throwsAsync(client.read(0, new Uint8Array(512)), { instanceOf: TimebandError });
  t.regex(error?.message ?? '', /EIO: bad sector/);
  const out = new Uint8Array(512);
  await client.read(512, out);
  t.true(out.every((byte) => byte === 7));
});

test.serial('all requests under way fail when one reply is wrong, and so do later ones', async (t) => {
  const client = await open(t, { onRequest: (request) => (request.offset === 40_960 ? new Uint8Array(16).fill(3) : undefined) });
  const codes = await Promise.all(Array.from({ length: 11 }, (_, i) => codeOf(() => client.read(i * 4096, new Uint8Array(4096)))));
  t.deepEqual(new Set(codes), new Set(['SOURCE_INVALID']));
  t.is(await codeOf(() => client.read(0, new Uint8Array(1))), 'SOURCE_INVALID');
});

test.serial('chunks of many requests may be mixed, and come in any order', async (t) => {
  const waiting: Request[] = [];
  const client = await open(t, {
    onRequest(request) {
      waiting.push(request);
      if (waiting.length < 3) return undefined;
      const halves = (flags: number, first: boolean): Uint8Array[] =>
        waiting.map((one) =>
          first ? data(one, one.offset + 2048, 2048, flags) : chunk(one, CHUNK.offsetHole, encodeHole({ offset: one.offset, length: 2048 }), flags),
        );
      return Buffer.concat([...halves(0, true).reverse(), ...halves(1, false)]);
    },
  });
  const outs = Array.from({ length: 3 }, () => new Uint8Array(4096).fill(1));
  await Promise.all(outs.map((out, i) => client.read(i * 8192, out)));
  for (const out of outs) t.true(out.every((byte, i) => byte === (i < 2048 ? 0 : 7)));
});

const STATUSES: readonly { readonly title: string; readonly answer: (request: Request) => Uint8Array; readonly code?: string }[] = [
  { title: 'an extent of no bytes', answer: (request) => status(request, [[0, 0]]) },
  { title: 'no extent', answer: (request) => chunk(request, CHUNK.blockStatus, new Uint8Array(4)) },
  { title: 'half an extent', answer: (request) => chunk(request, CHUNK.blockStatus, new Uint8Array(9)) },
  { title: 'an extent beyond the export', answer: (request) => status(request, [[EXPORT_BYTES + 512, 0]]) },
  {
    title: 'an extent behind the end',
    answer: (request) =>
      status(request, [
        [EXPORT_BYTES, 0],
        [512, 0],
      ]),
  },
  { title: 'an extent of one byte', answer: (request) => status(request, [[1, 0]]) },
  { title: 'another context', answer: (request) => status(request, [[EXPORT_BYTES, 0]], 5) },
  { title: 'no context', answer: (request) => chunk(request, CHUNK.none, new Uint8Array(0)) },
  { title: 'data', answer: (request) => data(request, 0, 512) },
  { title: 'success of a simple kind', answer: ({ cookie }) => encodeSimpleReply({ error: 0, cookie }) },
  { title: 'an error', answer: ({ cookie }) => encodeSimpleReply({ error: 22, cookie }), code: 'SOURCE_UNREADABLE' },
];

for (const { title, answer, code = 'SOURCE_INVALID' } of STATUSES) {
  test.serial(`a block status with ${title} is ${code}`, async (t) => {
    const client = await open(t, { onRequest: (request) => (request.command === COMMAND.blockStatus ? answer(request) : undefined) });
    t.is(await codeOf(() => client.readExtents(() => undefined)), code);
  });
}

test.serial('a status that is given piece by piece is put together', async (t) => {
  const client = await open(t, { onRequest: (request) => status(request, [[Math.min(request.length, 200_192), request.offset === 0 ? 3 : 0]]) });
  const seen: string[] = [];
  await client.readExtents(({ offset, length, flags }) => seen.push(`${offset} ${length} ${flags}`));
  t.deepEqual(seen, ['0 200192 3', '200192 200192 0', '400384 200192 0', '600576 200192 0', '800768 200192 0', '1000960 47616 0']);
});

test.serial('any bytes for an answer are an error or, by chance, an answer', async (t) => {
  let answer = new Uint8Array(0);
  const socket = await serveScript(t, { onRequest: () => answer });
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.boolean(), async (bytes, hasMagic) => {
      answer = hasMagic ? Buffer.concat([Buffer.from('668e33ef', 'hex'), bytes]) : bytes;
      try {
        await using client = await NbdClient.connect({ endpoint: { socket }, exportName: '', contexts: [BASE_ALLOCATION], silenceMs: 100 });
        await client.read(0, new Uint8Array(512));
      } catch (error) {
        if (!(error instanceof TimebandError)) throw error;
      }
    }),
    { numRuns: 30 },
  );
  t.pass();
});

test.serial('a server without structured replies is read by simple ones', async (t) => {
  const client = await open(t, {
    onOption: (option) => (option === OPTION.structuredReply ? encodeOptionReply(option, OPTION_ERROR.unsupported) : undefined),
    onRequest: ({ cookie, offset, length }) => Buffer.concat([encodeSimpleReply({ error: 0, cookie }), new Uint8Array(length).fill(offset >>> 12)]),
  });
  t.deepEqual([...client.contexts], []);
  const outs = Array.from({ length: 9 }, () => new Uint8Array(4096));
  await Promise.all(outs.map((out, i) => client.read(i * 4096, out)));
  for (const [i, out] of outs.entries()) t.true(out.every((byte) => byte === i));
  await client.readExtents(() => t.fail('nothing is told'));
});

test.serial('a client that is closed ends its connection; what is under way fails', async (t) => {
  const socket = await serveScript(t, {});
  const client = await NbdClient.connect({ endpoint: { socket }, exportName: '' });
  const under = codeOf(() => client.read(0, new Uint8Array(512)));
  await client.close();
  t.is(await under, 'SOURCE_UNREADABLE');
  t.is(await codeOf(() => client.read(0, new Uint8Array(512))), 'SOURCE_UNREADABLE');
});

test.serial('no server, no socket, no right: each has its code', async (t) => {
  const socket = await serveScript(t, {});
  const probe = connect(socket);
  await new Promise((resolve) => probe.once('connect', resolve));
  probe.destroy();
  t.is(await codeOf(() => NbdClient.connect({ endpoint: { socket: `${socket}.not` }, exportName: '' })), 'SOURCE_NOT_FOUND');
  t.is(await codeOf(() => NbdClient.connect({ endpoint: { socket: `/${'x'.repeat(200)}` }, exportName: '' })), 'USAGE');
  t.is(await codeOf(() => NbdClient.connect({ endpoint: { host: '127.0.0.1', port: 1 }, exportName: '' })), 'SOURCE_NOT_FOUND');
});
