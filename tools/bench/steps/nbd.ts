/** Copying the newest backup over NBD to nowhere, beside nbdkit's memory plugin, which has the same image as it is. */
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { attempt, type BenchContext, formatRate } from '../context.ts';
import type { Usage } from '../measure.ts';
import { TimebandPeer } from '../peers/timeband.ts';
import { endMarked, markedCpuMs, markedProcesses, peakRssOf, resetPeakRss, waitForEnd } from '../processes.ts';
import { NBDKIT, STEP } from '../step-titles.ts';

const POLL_MS = 20;
const PATIENCE_MS = 30_000;
const END_PATIENCE_MS = 15_000;

export async function copyOverNbd(context: BenchContext): Promise<void> {
  for (const tool of ['nbdcopy', 'nbdkit']) {
    const isThere = await context.runner.run({ argv: [tool, '--version'] }).then(
      () => true,
      () => false,
    );
    if (!isThere) return context.report.add({ step: STEP.nbd, tool, note: 'left out: not installed' });
  }
  const timeband = context.found.peers.find((peer) => peer instanceof TimebandPeer);
  if (timeband !== undefined) await attempt(context, { step: STEP.nbd, tool: timeband.name }, () => copyOurs(context, timeband));
  await attempt(context, { step: STEP.nbd, tool: NBDKIT }, () => copyMemory(context));
}

async function copyOurs(context: BenchContext, timeband: TimebandPeer): Promise<void> {
  const { runner, report, source, workspace } = context;
  const socket = workspace.path('nbd.sock');
  const load = await runner.makeCold();
  await runner.run(timeband.serveNbd(socket));
  try {
    const usage = await copyToNowhere(context, socket);
    report.add({ step: STEP.nbd, tool: timeband.name, usage, load, note: formatRate(source.sizeBytes, usage) });
  } finally {
    await runner.run(timeband.stopNbd(socket));
  }
}

async function copyMemory(context: BenchContext): Promise<void> {
  const { runner, report, source, workspace } = context;
  const socket = workspace.path('nbdkit.sock');
  const load = await runner.makeCold();
  await runner.run({ argv: ['nbdkit', '--unix', socket, '--pidfile', workspace.path('nbdkit.pid'), 'memory', String(source.sizeBytes)] });
  try {
    await waitFor(socket);
    await runner.run({ argv: ['nbdcopy', source.image, uriOf(socket)] });
    const usage = await copyToNowhere(context, socket);
    report.add({ step: STEP.nbd, tool: NBDKIT, usage, load, note: formatRate(source.sizeBytes, usage) });
  } finally {
    await endMarked(workspace.mark);
    await waitForEnd(workspace.mark, END_PATIENCE_MS);
  }
}

async function copyToNowhere({ runner, workspace }: BenchContext, socket: string): Promise<Usage> {
  const servers = markedProcesses(workspace.mark);
  resetPeakRss(servers);
  const before = markedCpuMs(workspace.mark);
  const { usage } = await runner.run({ argv: ['nbdcopy', uriOf(socket), 'null:'] });
  return { wallMs: usage.wallMs, cpuMs: usage.cpuMs + markedCpuMs(workspace.mark) - before, peakRssBytes: peakRssOf(servers) };
}

function uriOf(socket: string): string {
  return `nbd+unix:///?socket=${socket}`;
}

async function waitFor(socket: string): Promise<void> {
  for (let waited = 0; waited < PATIENCE_MS; waited += POLL_MS) {
    const isThere = await stat(socket).then(
      () => true,
      () => false,
    );
    if (isThere) return;
    await sleep(POLL_MS);
  }
  throw new Error(`${socket} did not come up`);
}
