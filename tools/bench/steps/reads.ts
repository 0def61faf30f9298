/**
 * Reading a session through a mount, beside a FUSE file system that answers every read at once with nothing: how much of what
 * fuse-native and the kernel can do is left. The two take turns, each time mounted anew, so that what else the machine does
 * hits both, and nothing that was decoded before is there.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { attachLoop, detachLoop } from '../../../fuse/block-image.ts';
import { attempt, type BenchContext, formatRate } from '../context.ts';
import { loadAverage, medianUsage, type Usage } from '../measure.ts';
import { MountServer } from '../mount-server.ts';
import { existing } from '../peers/peer.ts';
import { TimebandPeer } from '../peers/timeband.ts';
import { readRandomly } from '../random-reads.ts';
import { NULL_FUSE, STEP } from '../step-titles.ts';

const NULL_PROGRAM = fileURLToPath(new URL('../children/null-fuse.js', import.meta.url));
const ROUNDS = 3;
/** Many, so that most come when the programs are warm. */
const RANDOM_READS = 12_000;
const READERS = 8;
const MIB = 1_048_576;

/** A tool that serves an image. */
interface Served {
  readonly tool: string;
  /** What the image's blocks must be equal to; undefined: it has none. */
  readonly reference: string | undefined;
  start(): Promise<{ readonly server: MountServer; readonly image: string }>;
}

/** One way to read an image. @returns what it took, and what is to be said of it */
type Reading = (context: BenchContext, image: string, served: Served) => Promise<{ readonly usage: Usage; readonly note?: string }>;

export async function reads(context: BenchContext): Promise<void> {
  const timeband = context.found.peers.find((peer) => peer instanceof TimebandPeer);
  if (timeband === undefined) return;
  const both = [nullFuse(context), session(context, timeband)];
  const { sizeBytes } = context.source;
  await compare(context, both, { step: STEP.readInOrder, read: readInOrder, bytes: sizeBytes });
  await compare(context, both.slice(1), { step: STEP.readAgain, read: readAgain, bytes: sizeBytes });
  if (process.getuid?.() === 0) await compare(context, both, { step: STEP.readLoop, read: readLoop, bytes: sizeBytes });
  await compare(context, both, { step: STEP.readRandomly, read: readHereAndThere(1), count: RANDOM_READS });
  await compare(context, both, { step: STEP.readRandomlyByMany, read: readHereAndThere(READERS), count: RANDOM_READS });
}

function nullFuse(context: BenchContext): Served {
  return {
    tool: NULL_FUSE,
    reference: undefined,
    async start() {
      const directory = await context.workspace.fresh('reads');
      const image = path.join(directory, 'image');
      const command = { argv: [process.execPath, NULL_PROGRAM, directory] };
      return { server: await MountServer.start(context, { directory, command, look: () => existing(image) }), image };
    },
  };
}

function session(context: BenchContext, timeband: TimebandPeer): Served {
  return {
    tool: timeband.name,
    reference: context.source.image,
    async start() {
      const directory = await context.workspace.fresh('reads');
      const look = (): Promise<string | undefined> => timeband.mountedImage(directory, 'newest');
      const server = await MountServer.start(context, {
        directory,
        command: timeband.mount(directory),
        unmount: timeband.unmount(directory),
        look,
      });
      return { server, image: (await look()) ?? '' };
    },
  };
}

interface Comparison {
  readonly step: string;
  readonly read: Reading;
  /** What is read: bytes in order, or blocks. */
  readonly bytes?: number;
  readonly count?: number;
}

async function compare(context: BenchContext, all: readonly Served[], { step, read, bytes, count }: Comparison): Promise<void> {
  await attempt(context, { step, tool: 'timeband' }, async () => {
    const runs = new Map<string, { readonly usages: Usage[]; note: string }>(all.map(({ tool }) => [tool, { usages: [], note: '' }]));
    const load = loadAverage();
    for (let round = 0; round < ROUNDS; round++) {
      for (const served of all) {
        await context.runner.makeCold();
        await warmRepository(context, served);
        const { server, image } = await served.start();
        try {
          const run = runs.get(served.tool);
          const usage = await server.measure(async () => {
            const done = await read(context, image, served);
            if (run !== undefined) run.note = done.note ?? '';
            return done.usage;
          });
          run?.usages.push(usage);
        } finally {
          await server.stop();
        }
      }
    }
    for (const [tool, { usages, note }] of runs) {
      const usage = medianUsage(usages);
      const show = (one: Usage): string => (bytes === undefined ? `${Math.round(perSecond(count, one))}/s` : formatRate(bytes, one));
      const text = `${show(usage)}, median of ${usages.map(show).join(', ')}${note === '' ? '' : `; ${note}`}`;
      context.report.add({ step, tool, usage, perSecond: perSecond(bytes ?? count, usage), load, note: text });
    }
  });
}

function perSecond(amount: number | undefined, { wallMs }: Usage): number {
  return ((amount ?? 0) / wallMs) * 1000;
}

/** How fast the disk is, is not asked here: the band files are in memory, as they are for the one that has none. */
async function warmRepository({ runner, found }: BenchContext, { reference }: Served): Promise<void> {
  const timeband = found.peers.find((peer) => peer instanceof TimebandPeer);
  if (reference === undefined || timeband === undefined) return;
  await runner.run({ argv: ['sh', '-c', 'find "$1" -type f -exec cat {} + >/dev/null', 'sh', timeband.repository] });
}

async function copyToNowhere({ runner, source }: BenchContext, file: string): Promise<{ readonly usage: Usage }> {
  const count = Math.ceil(source.sizeBytes / MIB);
  return { usage: (await runner.run({ argv: ['dd', `if=${file}`, 'of=/dev/null', 'bs=1M', `count=${count}`, 'status=none'] })).usage };
}

const readInOrder: Reading = (context, image) => copyToNowhere(context, image);

/** When the kernel has it all. */
const readAgain: Reading = async (context, image) => {
  await copyToNowhere(context, image);
  return await copyToNowhere(context, image);
};

const readLoop: Reading = async (context, image) => {
  const device = await attachLoop(image);
  try {
    return await copyToNowhere(context, device);
  } finally {
    await detachLoop(device);
  }
};

function readHereAndThere(readers: number): Reading {
  return ({ runner }, file, { reference }) => readRandomly(runner, { file, reference, reads: RANDOM_READS, readers });
}
