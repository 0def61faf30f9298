/** Reading the backed-up image through a mount: in order, here and there, and as the file system it holds. */
import { attempt, type BenchContext, formatRate } from '../context.ts';
import { addUsage } from '../measure.ts';
import { MountServer } from '../mount-server.ts';
import { unmountPatiently } from '../mounts.ts';
import type { Peer, Which } from '../peers/peer.ts';
import { RANDOM_READS, readRandomly } from '../random-reads.ts';
import { STEP } from '../step-titles.ts';

export async function mountAll(context: BenchContext): Promise<void> {
  for (const peer of context.found.peers) await attempt(context, { step: STEP.visible, tool: peer.name }, () => mountOne(context, peer));
}

async function mountOne(context: BenchContext, peer: Peer): Promise<void> {
  const { runner, report, workspace } = context;
  const directory = await workspace.fresh('mount');
  const load = await runner.makeCold();
  const server = await MountServer.start(context, {
    directory,
    command: peer.mount(directory),
    unmount: peer.unmount(directory),
    look: () => peer.mountedImage(directory, 'newest'),
  });
  try {
    report.add({ step: STEP.visible, tool: peer.name, usage: server.visible, load, note: 'until the image can be seen' });
    const measured = { context, peer, server, directory };
    for (const [step, run] of [
      [STEP.sequential, readInOrder],
      [STEP.random, readHereAndThere],
      [STEP.loop, walkFileSystem],
    ] as const)
      await attempt(context, { step, tool: peer.name }, () => run(measured));
  } finally {
    await server.stop();
  }
}

interface Mounted {
  readonly context: BenchContext;
  readonly peer: Peer;
  readonly server: MountServer;
  readonly directory: string;
}

async function imageOf({ peer, directory }: Mounted, which: Which): Promise<string> {
  const image = await peer.mountedImage(directory, which);
  if (image === undefined) throw new Error('the image is not in the mount any more');
  return image;
}

async function readInOrder(mounted: Mounted): Promise<void> {
  const { runner, report, source } = mounted.context;
  const image = await imageOf(mounted, 'newest');
  const load = await runner.makeCold();
  const usage = await mounted.server.measure(
    async () => (await runner.run({ argv: ['dd', `if=${image}`, 'of=/dev/null', 'bs=1M', 'status=none'] })).usage,
  );
  report.add({ step: STEP.sequential, tool: mounted.peer.name, usage, load, note: formatRate(source.sizeBytes, usage) });
}

async function readHereAndThere(mounted: Mounted): Promise<void> {
  const { runner, report, source } = mounted.context;
  const file = await imageOf(mounted, 'newest');
  const load = await runner.makeCold();
  let note = '';
  const usage = await mounted.server.measure(async () => {
    const reads = await readRandomly(runner, { file, reference: source.image });
    note = `${RANDOM_READS} reads, equal to the image; ${reads.note}`;
    return reads.usage;
  });
  report.add({ step: STEP.random, tool: mounted.peer.name, usage, load, note });
}

/** Of the oldest backup: the changes before the newest one went through the file system like bullets. */
async function walkFileSystem(mounted: Mounted): Promise<void> {
  const { runner, report, workspace } = mounted.context;
  const tool = mounted.peer.name;
  if (process.getuid?.() !== 0) return report.add({ step: STEP.loop, tool, note: 'left out: needs root' });
  const image = await imageOf(mounted, 'oldest');
  const point = await workspace.fresh('loop');
  const load = await runner.makeCold();
  try {
    let entries = 0;
    const usage = await mounted.server.measure(async () => {
      const mount = await runner.run({ argv: ['mount', '-o', 'ro,loop,noload', image, point] });
      const find = await runner.run({ argv: ['find', point, '-printf', '%s\n'] });
      entries = find.stdout.split('\n').length - 1;
      return addUsage(mount.usage, find.usage);
    });
    report.add({ step: STEP.loop, tool, usage, load, note: `${entries} entries` });
  } finally {
    await unmountPatiently(point);
  }
}
