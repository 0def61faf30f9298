/** The NBD server by the letter of the protocol, for clients that are right, wrong, hostile or slow. */
import { once } from 'node:events';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../bands/errors.ts';
import { viewOf } from '../../../bands/format/bytes.ts';
import type { ReadableImage, WritableImage } from '../../../bands/store/image.ts';
import { NbdClient } from '../../../src/nbd/client/nbd-client.ts';
import {
  decodeExportInfo,
  decodeMetaContext,
  decodeServerListing,
  encodeExportRequest,
  encodeMetaContextRequest,
  encodeOption,
} from '../../../src/nbd/handshake-codec.ts';
import {
  BASE_ALLOCATION,
  CHUNK,
  COMMAND,
  COMMAND_FLAG,
  EXPORT_FLAG,
  INFO,
  NBD_ERROR,
  OPTION,
  OPTION_ERROR,
  OPTION_REPLY,
} from '../../../src/nbd/protocol.ts';
import { NbdServer } from '../../../src/nbd/server/nbd-server.ts';
import { decodeBlockStatus, encodeRequest } from '../../../src/nbd/transmission-codec.ts';
import { fill, isSame, sameBytes } from '../../support/bytes.ts';
import { codeOf } from '../../support/library.ts';
import { workspace } from '../../support/workspace.ts';
import { dataOf, serveImages } from './raw-client.ts';

const KIB = 1024;
const SIZE = 4096 * KIB;
/** Zeros in its second and third MiB. */
const BYTES = fill('disk', SIZE);
BYTES.fill(0, 1024 * KIB, 3072 * KIB);

function diskImage(bytes: Uint8Array = BYTES): ReadableImage {
  return {
    sizeBytes: bytes.length,
    read: (out, offset) => Promise.resolve(void out.set(bytes.subarray(offset, offset + out.length))),
    async *extents(offset, length) {
      for (let at = offset; at < offset + length; ) {
        const end = Math.min(offset + length, (Math.floor(at / (1024 * KIB)) + 1) * 1024 * KIB);
        yield { length: end - at, isZero: at >= 1024 * KIB && at < 3072 * KIB };
        at = end;
      }
    },
  };
}

function writableImage(bytes: Uint8Array): WritableImage & { flushed: number } {
  const image = {
    flushed: 0,
    sizeBytes: bytes.length,
    read: (out: Uint8Array, offset: number) => Promise.resolve(void out.set(bytes.subarray(offset, offset + out.length))),
    write: (part: Uint8Array, offset: number) => Promise.resolve(void bytes.set(part, offset)),
    flush: () => Promise.resolve(void image.flushed++),
    zero: (offset: number, length: number) => Promise.resolve(void bytes.fill(0, offset, offset + length)),
  };
  return image;
}

test('options: what there is, what is asked of it, and no to everything else, after which the next option works', async (t) => {
  const client = (await serveImages(t, diskImage(), diskImage(new Uint8Array(512)))).client();
  await client.greet();
  const listed = await client.option(OPTION.list);
  t.deepEqual(
    listed.map(({ type, data }) => (type === OPTION_REPLY.server ? decodeServerListing(data) : type)),
    [{ exportName: '0', details: 'image 0' }, { exportName: '1', details: 'image 1' }, OPTION_REPLY.ack],
  );
  const typeOf = async (option: number, data?: Uint8Array): Promise<number | undefined> => (await client.option(option, data)).at(-1)?.type;
  t.is(await typeOf(OPTION.startTls), OPTION_ERROR.unsupported);
  for (const unknown of [0, 4, 11, 99, 0xffffffff]) t.is(await typeOf(unknown, new Uint8Array(100)), OPTION_ERROR.unsupported);
  t.is(await typeOf(OPTION.list, new Uint8Array(4)), OPTION_ERROR.invalid);
  t.is(await typeOf(OPTION.structuredReply, new Uint8Array(1)), OPTION_ERROR.invalid);
  t.is(
    await typeOf(OPTION.setMetaContext, encodeMetaContextRequest({ exportName: '0', queries: [BASE_ALLOCATION] })),
    OPTION_ERROR.invalid,
    'no structured replies',
  );
  for (const option of [OPTION.info, OPTION.go]) {
    t.is(await typeOf(option, encodeExportRequest({ exportName: 'x', infos: [] })), OPTION_ERROR.unknownExport);
    t.is(await typeOf(option, encodeExportRequest({ exportName: '', infos: [] })), OPTION_ERROR.unknownExport, 'there are two');
    t.is(await typeOf(option, Uint8Array.of(0, 0, 0, 200, 1)), OPTION_ERROR.invalid);
    t.is(await typeOf(option, new Uint8Array(0)), OPTION_ERROR.invalid);
  }
  t.is(await typeOf(OPTION.structuredReply), OPTION_REPLY.ack);
  const contexts = async (option: number, ...queries: string[]) =>
    (await client.option(option, encodeMetaContextRequest({ exportName: '0', queries }))).map(({ type, data }) =>
      type === OPTION_REPLY.metaContext ? decodeMetaContext(data).name : type,
    );
  for (const queries of [[], ['base:'], [BASE_ALLOCATION]])
    t.deepEqual(await contexts(OPTION.listMetaContext, ...queries), [BASE_ALLOCATION, OPTION_REPLY.ack]);
  t.deepEqual(await contexts(OPTION.setMetaContext, 'x:y'), [OPTION_REPLY.ack]);
  t.deepEqual(await contexts(OPTION.setMetaContext), [OPTION_REPLY.ack]);
  const infos = await client.option(OPTION.info, encodeExportRequest({ exportName: '1', infos: [INFO.name, INFO.description, INFO.blockSize, 77] }));
  t.deepEqual(
    infos.slice(0, -1).map(({ data }) => decodeExportInfo(data)),
    [
      {
        kind: 'export',
        sizeBytes: 512,
        flags: EXPORT_FLAG.hasFlags | EXPORT_FLAG.readOnly | EXPORT_FLAG.flush | EXPORT_FLAG.df | EXPORT_FLAG.multiConn | EXPORT_FLAG.cache,
      },
      { kind: 'block size', minimum: 1, preferred: 131_072, maximum: 33_554_432 },
      { kind: 'name', text: '1' },
      { kind: 'description', text: 'image 1' },
    ],
  );
  t.is(await typeOf(OPTION.abort), OPTION_REPLY.ack);
  t.true(await client.isHungUp());
});

test('the oldest way into an export works, with zeros and without; an unknown one is hung up on', async (t) => {
  const rig = await serveImages(t, diskImage());
  for (const [flags, zeros] of [
    [1, 124],
    [3, 0],
  ] as const) {
    const client = rig.client();
    await client.greet(flags);
    client.send(encodeOption(OPTION.exportName, Buffer.from('0')));
    const reply = await client.take(10 + zeros);
    t.is(Number(viewOf(reply).getBigUint64(0)), SIZE);
    client.ask({ offset: 100, length: 50 });
    const answer = await client.take(16 + 50);
    t.is(Buffer.from(answer.subarray(0, 8)).toString('hex'), '6744669800000000');
    sameBytes(t, answer.subarray(16), BYTES.subarray(100, 150));
    client.ask({ offset: SIZE, length: 1 });
    t.is(viewOf(await client.take(16)).getUint32(4), NBD_ERROR.EINVAL);
    client.ask({ command: COMMAND.flush });
    t.is(viewOf(await client.take(16)).getUint32(4), 0);
  }
  const lost = rig.client();
  await lost.greet();
  lost.send(encodeOption(OPTION.exportName, Buffer.from('nothing')));
  t.true(await lost.isHungUp());
});

test('a read gives the bytes of its range: zeros as holes, in one piece where that is asked for', async (t) => {
  const client = (await serveImages(t, diskImage())).client();
  await client.enter();
  for (const [offset, length] of [
    [0, 512],
    [1000 * KIB, 3000 * KIB],
    [SIZE - 1, 1],
    [2000 * KIB, 10],
    [0, SIZE],
  ] as const) {
    const answer = await client.request({ offset, length });
    sameBytes(t, dataOf(answer, offset, length), BYTES.subarray(offset, offset + length));
    const whole = await client.request({ offset, length, flags: COMMAND_FLAG.df });
    t.deepEqual(
      whole.chunks.map(({ type }) => type),
      [CHUNK.offsetData],
    );
    sameBytes(t, dataOf(whole, offset, length), BYTES.subarray(offset, offset + length));
  }
  const mixed = await client.request({ offset: 1000 * KIB, length: 3000 * KIB });
  t.deepEqual(
    mixed.chunks.map(({ type }) => type),
    [CHUNK.offsetData, CHUNK.offsetHole, CHUNK.offsetData],
  );
  t.deepEqual(
    (await client.request({ length: 0, offset: SIZE })).chunks.map(({ type }) => type),
    [CHUNK.none],
  );
});

test('the status of a range is what is known of it; with REQ_ONE only the first of that', async (t) => {
  const client = (await serveImages(t, diskImage())).client();
  await client.enter();
  const status = async (offset: number, length: number, flags = 0) => {
    const { chunks } = await client.request({ command: COMMAND.blockStatus, offset, length, flags });
    return decodeBlockStatus(chunks[0]?.payload ?? new Uint8Array(0)).extents.map((extent) => [extent.length / KIB, extent.flags]);
  };
  t.deepEqual(await status(0, SIZE), [
    [1024, 0],
    [2048, 3],
    [1024, 0],
  ]);
  t.deepEqual(await status(1000 * KIB, 100 * KIB), [
    [24, 0],
    [76, 3],
  ]);
  t.deepEqual(await status(1000 * KIB, 3000 * KIB, COMMAND_FLAG.reqOne), [[24, 0]]);
});

test('what is outside, not known, not agreed on or not allowed is refused by its errno, and the connection goes on', async (t) => {
  const client = (await serveImages(t, diskImage())).client();
  await client.enter();
  const refusals: readonly [Partial<Parameters<typeof client.request>[0]>, number][] = [
    [{ offset: SIZE, length: 1 }, NBD_ERROR.EINVAL],
    [{ offset: SIZE - 1, length: 2 }, NBD_ERROR.EINVAL],
    [{ offset: 2 ** 52, length: 512 }, NBD_ERROR.EINVAL],
    [{ offset: 0, length: 0xffffffff }, NBD_ERROR.EINVAL],
    [{ command: COMMAND.cache, offset: SIZE, length: 1 }, NBD_ERROR.EINVAL],
    [{ command: COMMAND.blockStatus, offset: 0, length: 0 }, NBD_ERROR.EINVAL],
    [{ command: COMMAND.blockStatus, offset: 0, length: SIZE + 1 }, NBD_ERROR.EINVAL],
    [{ command: COMMAND.trim, offset: 0, length: 512 }, NBD_ERROR.EPERM],
    [{ command: COMMAND.writeZeroes, offset: 0, length: 512 }, NBD_ERROR.EPERM],
    [{ command: 6_000, offset: 0, length: 512 }, NBD_ERROR.EINVAL],
    [{ flags: 0x8000, offset: 0, length: 512 }, NBD_ERROR.EINVAL],
    [{ flags: COMMAND_FLAG.reqOne, offset: 0, length: 512 }, NBD_ERROR.EINVAL],
  ];
  for (const [request, error] of refusals) t.is((await client.request(request)).error, error, JSON.stringify(request));
  t.is((await client.request({ command: COMMAND.write, offset: 0, length: 700 }, new Uint8Array(700))).error, NBD_ERROR.EPERM);
  for (const command of [COMMAND.cache, COMMAND.flush])
    t.is((await client.request({ command, length: command === COMMAND.cache ? SIZE : 0 })).error, 0);
  sameBytes(t, dataOf(await client.request({ offset: 5, length: 5 }), 5, 5), BYTES.subarray(5, 10));
});

test('without its metadata context there is no status', async (t) => {
  const client = (await serveImages(t, diskImage())).client();
  await client.greet();
  await client.option(OPTION.structuredReply);
  await client.option(OPTION.go, encodeExportRequest({ exportName: '', infos: [] }));
  t.is((await client.request({ command: COMMAND.blockStatus, length: 512 })).error, NBD_ERROR.EINVAL);
});

test('a context that was selected for another export does not count', async (t) => {
  const client = (await serveImages(t, diskImage(), diskImage())).client();
  await client.greet();
  await client.option(OPTION.structuredReply);
  await client.option(OPTION.setMetaContext, encodeMetaContextRequest({ exportName: '0', queries: [BASE_ALLOCATION] }));
  await client.option(OPTION.go, encodeExportRequest({ exportName: '1', infos: [] }));
  t.is((await client.request({ command: COMMAND.blockStatus, length: 512 })).error, NBD_ERROR.EINVAL);
});

test('a writable export takes writes, zeros and flushes; FUA flushes; what does not fit finds no room', async (t) => {
  const bytes = Uint8Array.from(BYTES);
  const image = writableImage(bytes);
  const client = (await serveImages(t, image)).client();
  await client.enter();
  const large = fill('large', 3000 * KIB);
  t.is((await client.request({ command: COMMAND.write, offset: 77, length: large.length }, large)).error, 0);
  sameBytes(t, bytes.subarray(77, 77 + large.length), large);
  t.is(image.flushed, 0);
  t.is((await client.request({ command: COMMAND.write, flags: COMMAND_FLAG.fua, offset: 0, length: 3 }, Uint8Array.of(1, 2, 3))).error, 0);
  t.is(image.flushed, 1);
  t.is((await client.request({ command: COMMAND.flush })).error, 0);
  t.is(image.flushed, 2);
  for (const command of [COMMAND.trim, COMMAND.writeZeroes]) {
    bytes.fill(9, 100, 200);
    t.is((await client.request({ command, offset: 100, length: 100 })).error, 0);
    t.true(bytes.subarray(100, 200).every((byte) => byte === 0));
  }
  t.is((await client.request({ command: COMMAND.write, offset: SIZE - 1, length: 2 }, new Uint8Array(2))).error, NBD_ERROR.ENOSPC);
  t.is((await client.request({ command: COMMAND.writeZeroes, offset: SIZE, length: 1 })).error, NBD_ERROR.ENOSPC);
  image.write = () => Promise.reject(new TimebandError('full', { code: 'NO_SPACE' }));
  t.is((await client.request({ command: COMMAND.write, offset: 0, length: 2 }, new Uint8Array(2))).error, NBD_ERROR.ENOSPC);
  image.flush = () => Promise.reject(new TimebandError('broken', { code: 'IO_ERROR' }));
  t.is((await client.request({ command: COMMAND.flush })).error, NBD_ERROR.EIO);
});

test('a write that fails before all of its data has come is told when it has, and the server goes on', async (t) => {
  const image = writableImage(Uint8Array.from(BYTES));
  const client = (await serveImages(t, image)).client();
  await client.enter();
  const full = new TimebandError('full', { code: 'NO_SPACE' });
  const unhandled: unknown[] = []; // each ends a process that is no test
  const note = (error: unknown): void => void unhandled.push(error);
  process.on('unhandledRejection', note);
  t.teardown(() => process.off('unhandledRejection', note));
  image.write = () => Promise.reject(full);
  client.ask({ command: COMMAND.write, offset: 0, length: 2048 * KIB }, new Uint8Array(1024 * KIB));
  await sleep(100);
  client.send(new Uint8Array(1024 * KIB));
  t.is((await client.answer()).answer.error, NBD_ERROR.ENOSPC);
  t.is((await client.request({ command: COMMAND.flush })).error, 0);
  t.false(unhandled.includes(full));
});

test('a range that cannot be read is an error of its request alone, with the reason, and is logged', async (t) => {
  const image = diskImage();
  const bad: ReadableImage = {
    ...image,
    read: (out, offset, cursor) =>
      offset < 100_000 && offset + out.length > 50_000
        ? Promise.reject(new TimebandError('band 0 is damaged', { code: 'BAND_CORRUPT' }))
        : image.read(out, offset, cursor),
  };
  const rig = await serveImages(t, bad);
  const client = rig.client();
  await client.enter();
  for (const flags of [0, COMMAND_FLAG.df]) {
    const { error, chunks } = await client.request({ offset: 40_000, length: 20_000, flags });
    t.is(error, NBD_ERROR.EIO);
    t.is(Buffer.from(chunks[0]?.payload.subarray(6) ?? []).toString(), 'band 0 is damaged');
  }
  t.is(rig.errors.length, 2);
  sameBytes(t, dataOf(await client.request({ offset: 100_000, length: 1000 }), 100_000, 1000), BYTES.subarray(100_000, 101_000));
});

test('our own client reads all of it, many requests at once, and its extents', async (t) => {
  const { socket } = await serveImages(t, diskImage());
  await using client = await NbdClient.connect({ endpoint: { socket }, exportName: '0', contexts: [BASE_ALLOCATION] });
  const parts = await Promise.all(
    Array.from({ length: 64 }, async (_, i) => {
      const out = new Uint8Array(SIZE / 64);
      await client.read(i * out.length, out);
      return out;
    }),
  );
  sameBytes(t, Buffer.concat(parts), BYTES);
  let zeros = 0;
  await client.readExtents(({ length, flags }) => {
    if (flags === 3) zeros += length;
  });
  t.is(zeros, 2048 * KIB);
});

test('any bytes at any point of a conversation end or fail that client, and nobody else', async (t) => {
  const rig = await serveImages(t, diskImage());
  const good = rig.client();
  await good.enter();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.constantFrom('greeting', 'options', 'requests'), async (bytes, phase) => {
      const bad = rig.client();
      if (phase === 'requests') await bad.enter();
      else if (phase === 'options') await bad.greet();
      bad.send(bytes);
      bad.socket.end();
      while (!(await bad.isHungUp()));
    }),
    { numRuns: 100 },
  );
  sameBytes(t, dataOf(await good.request({ offset: 0, length: 600 }), 0, 600), BYTES.subarray(0, 600));
});

for (const [what, bytes] of [
  ['an option of 4 GiB', Uint8Array.from([...Buffer.from('IHAVEOPT'), 0, 0, 0, 7, 255, 255, 255, 255])],
  ['an option that is none', new Uint8Array(16)],
] as const)
  test(`${what} is hung up on at once`, async (t) => {
    const client = (await serveImages(t, diskImage())).client();
    await client.greet();
    client.send(bytes);
    t.true(await client.isHungUp());
  });

for (const [what, request] of [
  ['a write of 4 GiB', encodeRequest({ flags: 0, command: COMMAND.write, cookie: 1n, offset: 0, length: 0xffffffff })],
  ['an offset of 2^63', Buffer.from('2560951300000000000000000000000180000000000000000000ffff', 'hex')],
  ['a request that is none', new Uint8Array(28)],
] as const)
  test(`${what} is hung up on at once`, async (t) => {
    const client = (await serveImages(t, writableImage(Uint8Array.from(BYTES)))).client();
    await client.enter();
    client.send(request);
    t.true(await client.isHungUp());
  });

test('a client that asks and does not listen is not read from any more; what it has under way is bounded, and others are served', async (t) => {
  let [underWay, most] = [0, 0];
  const image = diskImage();
  const counted: ReadableImage = {
    ...image,
    async read(out, offset, cursor) {
      most = Math.max(most, ++underWay);
      await sleep(1);
      await image.read(out, offset, cursor);
      underWay--;
    },
  };
  const rig = await serveImages(t, counted);
  const slow = rig.client();
  await slow.enter();
  slow.socket.pause();
  const [length, count] = [512 * KIB, 400];
  for (let i = 0; i < count; i++) slow.ask({ offset: 3072 * KIB, length });
  const other = rig.client();
  await other.enter();
  for (let i = 0; i < 20; i++) t.is((await other.request({ offset: i, length: 4096 })).error, 0);
  t.true(most <= 17 + 1, `${most} under way`);
  t.true(slow.socket.bytesRead < count * length);
  for (let i = 0; i < count; i++) {
    const { answer } = await slow.answer();
    if (!isSame(dataOf(answer, 3072 * KIB, length), BYTES.subarray(3072 * KIB, 3072 * KIB + length))) t.fail(`answer ${i}`);
  }
});

test('a client that does not listen and breaks the protocol is hung up on, too', async (t) => {
  const rig = await serveImages(t, diskImage());
  const client = rig.client();
  await client.enter();
  client.socket.pause();
  for (let i = 0; i < 6; i++) client.ask({ offset: 0, length: 1024 * KIB, flags: COMMAND_FLAG.df });
  client.send(new Uint8Array(28));
  while (rig.errors.length === 0) await sleep(5);
  t.regex(rig.errors.join(), /the NBD protocol was broken/);
});

test('what was asked for before a disconnect is answered before the end', async (t) => {
  const image = diskImage();
  const late: ReadableImage = { ...image, read: (out, offset, cursor) => sleep(20).then(() => image.read(out, offset, cursor)) };
  const client = (await serveImages(t, late)).client();
  await client.enter();
  client.ask({ offset: 0, length: 512 });
  client.ask({ command: COMMAND.disconnect });
  t.is((await client.answer()).answer.error, 0);
  t.true(await client.isHungUp());
});

test('a server that is closed hangs up on everybody, also on who does not listen, and takes its socket away', async (t) => {
  const rig = await serveImages(t, diskImage());
  const [idle, stuck, halfOpen] = [rig.client(), rig.client(), rig.client()];
  await idle.enter();
  await stuck.enter();
  stuck.socket.pause();
  for (let i = 0; i < 50; i++) stuck.ask({ offset: 0, length: 1024 * KIB });
  await halfOpen.take(18);
  await rig.server.close();
  t.false(existsSync(rig.socket));
  t.true(await idle.isHungUp());
  t.true(await halfOpen.isHungUp());
});

test('only the owner may connect', async (t) => {
  const { socket } = await serveImages(t, diskImage());
  t.is(statSync(socket).mode & 0o777, 0o600);
});

test('a socket that nobody listens at is replaced; one that answers, or another file, is left alone', async (t) => {
  const space = workspace(t);
  const exports = [{ name: 'x', description: '', image: diskImage() }];
  const listen = (socket: string): Promise<NbdServer> => NbdServer.listen({ socket, exports, onError: () => undefined });
  const first = await listen(space.at('s'));
  t.is(await codeOf(() => listen(space.at('s'))), 'LOCKED');
  await once(connect(space.at('s')), 'connect');
  await first.close();
  writeFileSync(space.at('file'), 'mine');
  t.is(await codeOf(() => listen(space.at('file'))), 'TARGET_EXISTS');
  t.is(await codeOf(() => listen(space.at('x'.repeat(200)))), 'USAGE');
  t.is(await codeOf(() => listen(space.at('missing', 's'))), 'IO_ERROR');
  const other = createServer();
  other.listen(space.at('live'));
  await once(other, 'listening');
  t.is(await codeOf(() => listen(space.at('live'))), 'LOCKED');
  other.close();
});
