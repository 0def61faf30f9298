/** Backing up: the first time, with nothing changed, and with some of it changed. */
import { attempt, type BenchContext, diskUse, formatRate } from '../context.ts';
import type { Peer } from '../peers/peer.ts';
import { STEP } from '../step-titles.ts';

const MIB = 1_048_576;

export async function firstBackup(context: BenchContext): Promise<void> {
  for (const peer of context.found.peers) {
    await attempt(context, { step: STEP.first, tool: peer.name }, async () => {
      await context.runner.run(peer.init());
      await backUp(context, peer, { step: STEP.first, label: 'first' });
    });
  }
}

export async function touchedBackup(context: BenchContext): Promise<void> {
  for (const peer of context.found.peers) {
    await context.source.touch();
    await attempt(context, { step: STEP.touched, tool: peer.name }, () => backUp(context, peer, { step: STEP.touched, label: 'touched' }));
  }
}

export async function incrementalBackup(context: BenchContext): Promise<void> {
  await context.source.change();
  for (const peer of context.found.peers) {
    await attempt(context, { step: STEP.incremental, tool: peer.name }, () => backUp(context, peer, { step: STEP.incremental, label: 'changed' }));
  }
}

async function backUp(context: BenchContext, peer: Peer, { step, label }: { readonly step: string; readonly label: string }): Promise<void> {
  const { runner, report, source } = context;
  const before = step === STEP.first ? undefined : await diskUse(runner, peer.repository);
  const load = await runner.makeCold();
  const { usage } = await runner.run(peer.backup(source, label));
  const storedBytes = await diskUse(runner, peer.repository);
  const growth = before === undefined ? '' : `, repository +${((storedBytes - before) / MIB).toFixed(1)} MiB`;
  report.add({ step, tool: peer.name, usage, storedBytes, load, note: `${formatRate(source.sizeBytes, usage)} of image${growth}` });
}
