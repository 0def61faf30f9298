/**
 * Writing to a disk that Timeband serves: a tracked image, and a live bundle, beside a file system on fuse-native that only hands
 * every request on. The three take turns, so that what else the machine does hits all of them.
 */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { attempt, type BenchContext, formatRate } from '../context.ts';
import { loadAverage, medianUsage, type Usage } from '../measure.ts';
import { MountServer } from '../mount-server.ts';
import { existing } from '../peers/peer.ts';
import { TimebandPeer } from '../peers/timeband.ts';
import { BUNDLE, PASSTHROUGH, STEP } from '../step-titles.ts';

const PASSTHROUGH_FUSE = fileURLToPath(new URL('../children/passthrough-fuse.js', import.meta.url));
const MIB = 1_048_576;
const DISK_MIB = 1024;
const RANDOM_MIB = 32;
const ROUNDS = 3;
/** The first round takes blocks and memory that later ones find in place: it counts for nobody. */
const WARM_UP_ROUNDS = 1;

/** One disk under test. */
interface Served {
  readonly tool: string;
  readonly directory: string;
  readonly server: MountServer;
}

export async function writes(context: BenchContext): Promise<void> {
  await attempt(context, { step: STEP.writtenInOrder, tool: 'timeband' }, async () => {
    const served: Served[] = [];
    try {
      served.push(await servePassthrough(context), await serveTracked(context), await serveBundle(context));
      await measureAll(context, served, STEP.writtenInOrder, ['--rw=write', '--bs=1M', '--end_fsync=1']);
      await measureAll(context, served, STEP.writtenRandomly, ['--rw=randwrite', '--bs=4k', '--fsync=32', `--io_size=${RANDOM_MIB}M`]);
    } finally {
      for (const { server } of served) await server.stop();
      await context.workspace.remove(context.workspace.path('writes'));
    }
  });
}

async function makeDisk(file: string): Promise<string> {
  await using handle = await open(file, 'w', 0o600);
  await handle.truncate(DISK_MIB * MIB);
  return file;
}

async function servePassthrough(context: BenchContext): Promise<Served> {
  const directory = await context.workspace.fresh('writes/passthrough');
  const file = await makeDisk(context.workspace.path('writes', 'passthrough.img'));
  const command = { argv: [process.execPath, PASSTHROUGH_FUSE, directory, file] };
  return { tool: PASSTHROUGH, directory, server: await start(context, directory, { command }) };
}

async function serveTracked(context: BenchContext): Promise<Served> {
  const directory = await context.workspace.fresh('writes/tracked');
  const timeband = new TimebandPeer(context.workspace.path('writes'));
  const file = await makeDisk(context.workspace.path('writes', 'tracked.img'));
  const commands = { command: timeband.command('track', 'attach', file, directory), unmount: timeband.command('track', 'detach', directory) };
  return { tool: 'timeband', directory, server: await start(context, directory, commands) };
}

async function serveBundle(context: BenchContext): Promise<Served> {
  const directory = await context.workspace.fresh('writes/bundle');
  const timeband = new TimebandPeer(context.workspace.path('writes'));
  const file = context.workspace.path('writes', 'disk.sparsebundle');
  await context.runner.run(timeband.command('bundle', 'create', file, '--size', `${DISK_MIB}M`));
  const commands = { command: timeband.command('bundle', 'attach', file, directory), unmount: timeband.command('bundle', 'detach', directory) };
  return { tool: BUNDLE, directory, server: await start(context, directory, commands) };
}

async function start(
  context: BenchContext,
  directory: string,
  commands: Pick<Parameters<typeof MountServer.start>[1], 'command' | 'unmount'>,
): Promise<MountServer> {
  return await MountServer.start(context, { directory, ...commands, look: () => existing(path.join(directory, 'image')) });
}

async function measureAll(context: BenchContext, served: readonly Served[], step: string, options: readonly string[]): Promise<void> {
  const usages = new Map<string, Usage[]>(served.map(({ tool }) => [tool, []]));
  const load = loadAverage();
  let bytes = 0;
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    for (const { tool, directory, server } of served) {
      await context.runner.run({ argv: ['sync'] });
      let wallMs = 0;
      const usage = await server.measure(async () => {
        const { stdout, usage } = await context.runner.run({ argv: fio(directory, options) });
        ({ wallMs, bytes } = readFio(stdout));
        return usage;
      });
      if (round >= WARM_UP_ROUNDS) usages.get(tool)?.push({ ...usage, wallMs });
    }
  }
  for (const [tool, runs] of usages) {
    const usage = medianUsage(runs);
    const all = runs.map((run) => formatRate(bytes, run)).join(', ');
    context.report.add({ step, tool, usage, load, note: `${formatRate(bytes, usage)}, median of ${all}` });
  }
}

function fio(directory: string, options: readonly string[]): string[] {
  return ['fio', '--name=writes', `--filename=${path.join(directory, 'image')}`, `--size=${DISK_MIB}M`, '--output-format=json', ...options];
}

/** The time that fio's own start takes is not the disk's. */
function readFio(text: string): { readonly wallMs: number; readonly bytes: number } {
  const { jobs }: { readonly jobs: readonly { readonly job_runtime: number; readonly write: { readonly io_bytes: number } }[] } = JSON.parse(text);
  const [job] = jobs;
  if (job === undefined) throw new Error('fio told of no job');
  return { wallMs: job.job_runtime, bytes: job.write.io_bytes };
}
