/** The client and a real server: qemu-nbd, with nbdinfo as a second opinion. */
import test, { type ExecutionContext } from 'ava';
import { NbdClient } from '../../../src/nbd/client/nbd-client.ts';
import { encodeExportInfo, encodeOptionReply } from '../../../src/nbd/handshake-codec.ts';
import { BASE_ALLOCATION, CHUNK, DIRTY_BITMAP_PREFIX, OPTION, OPTION_REPLY } from '../../../src/nbd/protocol.ts';
import { encodeDataOffset } from '../../../src/nbd/transmission-codec.ts';
import { fill, sameBytes } from '../../support/bytes.ts';
import { codeOf } from '../../support/library.ts';
import { diskOf, makeQcow2, qemuIo, serveImage } from '../../support/qemu.ts';
import { sh, type Workspace, workspace } from '../../support/workspace.ts';
import { chunk, EXPORT_BYTES, rightAnswer, serveScript } from './fake-server.ts';

const MIB = 1_048_576;

interface Served extends Workspace {
  readonly socket: string;
  readonly disk: Uint8Array;
  readonly server: Awaited<ReturnType<typeof serveImage>>;
}

/** An image of 40 MiB and 512 bytes with data, zeros, holes and a bitmap "b". */
async function served(t: ExecutionContext): Promise<Served> {
  const ws = workspace(t);
  const [image, socket] = [ws.at('disk.qcow2'), ws.at('s')];
  makeQcow2(image, 40 * MIB + 512);
  qemuIo(image, 'write -P 1 0 9M', 'write -P 2 20M 3M', `write -P 3 ${40 * MIB} 512`);
  sh('qemu-img', 'bitmap', '--add', image, 'b');
  qemuIo(image, 'write -P 4 1234567 10', 'write -z 2M 1M', 'discard 5M 1M', 'write -P 5 30M 65537');
  const server = await serveImage(t, socket, '--read-only', '-x', 'disk', '-B', 'b', '-f', 'qcow2', image);
  return { ...ws, socket, disk: diskOf(image, ws.at('raw')), server };
}

async function open(t: ExecutionContext, socket: string, ...contexts: string[]): Promise<NbdClient> {
  const client = await NbdClient.connect({ endpoint: { socket }, exportName: 'disk', contexts });
  t.teardown(() => client.close());
  return client;
}

test.serial('reads of any place and length, many at once, give the bytes of the disk', async (t) => {
  const { socket, disk } = await served(t);
  const client = await open(t, socket);
  t.is(client.sizeBytes, disk.length);
  const whole = new Uint8Array(disk.length);
  await client.read(0, whole);
  sameBytes(t, whole, disk);
  const places = Array.from({ length: 120 }, (_, i) => ({ at: (i * 7_654_321) % disk.length, length: 1 + ((i * 99_991) % 300_000) }));
  await Promise.all(
    places.map(async ({ at, length }) => {
      const out = new Uint8Array(Math.min(length, disk.length - at));
      await client.read(at, out);
      sameBytes(t, out, disk.subarray(at, at + out.length));
    }),
  );
  await client.read(5, new Uint8Array(0));
  await t.throwsAsync(client.read(disk.length - 1, new Uint8Array(2)), { instanceOf: RangeError });
});

test.serial('extents are those that nbdinfo sees, in each of several contexts', async (t) => {
  const { socket, disk } = await served(t);
  const contexts = [BASE_ALLOCATION, `${DIRTY_BITMAP_PREFIX}b`];
  const client = await open(t, socket, ...contexts);
  t.deepEqual([...client.contexts].sort(), contexts);
  const seen = new Map(contexts.map((name) => [name, [] as { offset: number; length: number; type: number }[]]));
  await client.readExtents(({ context, offset, length, flags }) => {
    const list = seen.get(context) ?? [];
    const last = list.at(-1);
    t.is(offset, last === undefined ? 0 : last.offset + last.length);
    if (last !== undefined && last.type === flags) last.length += length;
    else list.push({ offset, length, type: flags });
  });
  for (const context of contexts) {
    const told: { offset: number; length: number; type: number }[] = JSON.parse(
      sh('nbdinfo', '--json', `--map=${context}`, `nbd+unix:///disk?socket=${socket}`),
    );
    t.deepEqual(
      seen.get(context),
      told.map(({ offset, length, type }) => ({ offset, length, type })),
    );
    t.is(
      (seen.get(context) ?? []).reduce((sum, { length }) => sum + length, 0),
      disk.length,
    );
  }
});

test.serial('a server that takes only whole blocks, and not many of them, gets such requests', async (t) => {
  const block = 4096;
  const blockSizes = encodeExportInfo({ kind: 'block size', minimum: block, preferred: block, maximum: 8 * block });
  const disk = fill('blocks', EXPORT_BYTES);
  const socket = await serveScript(t, {
    onOption: (option, data) =>
      option === OPTION.go ? Buffer.concat([encodeOptionReply(option, OPTION_REPLY.info, blockSizes), rightAnswer(option, data)]) : undefined,
    onRequest(request) {
      const { offset, length } = request;
      if (offset % block !== 0 || length % block !== 0 || length > 8 * block) return 'hang up';
      return chunk(request, CHUNK.offsetData, Buffer.concat([encodeDataOffset(offset), disk.subarray(offset, offset + length)]));
    },
  });
  const client = await open(t, socket);
  for (const [at, length] of [
    [1, 1],
    [123_456, 30],
    [4095, 4098],
    [EXPORT_BYTES - 3, 3],
    [0, EXPORT_BYTES],
  ] as const) {
    const out = new Uint8Array(length);
    await client.read(at, out);
    sameBytes(t, out, disk.subarray(at, at + length));
  }
});

test.serial('a context that the server has not is left out, and the bitmaps that it has are named', async (t) => {
  const { socket } = await served(t);
  const client = await open(t, socket, BASE_ALLOCATION, `${DIRTY_BITMAP_PREFIX}other`);
  t.deepEqual([...client.contexts], [BASE_ALLOCATION]);
  t.deepEqual(client.offeredBitmaps, ['b']);
  t.is(await codeOf(() => NbdClient.connect({ endpoint: { socket }, exportName: 'other' })), 'SOURCE_NOT_FOUND');
});

test.serial('a server that is killed fails every request under way, at once', async (t) => {
  const { socket, server, disk } = await served(t);
  const client = await open(t, socket);
  const reads = Array.from({ length: 40 }, () => codeOf(() => client.read(0, new Uint8Array(disk.length))));
  server.kill('SIGKILL');
  t.true((await Promise.all(reads)).includes('SOURCE_UNREADABLE'));
  t.is(await codeOf(() => client.read(0, new Uint8Array(1))), 'SOURCE_UNREADABLE');
});
