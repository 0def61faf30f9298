/** Deleting the oldest of three backups, until the room that only it took is free. Each tool has a repository of its own for that. */
import path from 'node:path';
import { attempt, type BenchContext, diskUse } from '../context.ts';
import { addUsage } from '../measure.ts';
import { makePeers } from '../peers/find-peers.ts';
import type { Peer } from '../peers/peer.ts';
import { SourceFolder } from '../source.ts';
import { STEP } from '../step-titles.ts';

const MIB = 1_048_576;
const BACKUPS = 3;
const FOLDER = 'delete';

export async function deleteAll(context: BenchContext): Promise<void> {
  const { workspace, runner, base } = context;
  await workspace.fresh(FOLDER);
  const peers = makePeers(context.found, (name) => workspace.path(FOLDER, name));
  const source = await SourceFolder.create(workspace.path(FOLDER, 'source'), runner, base);
  let ready: readonly Peer[] = peers;
  for (let round = 0; round < BACKUPS; round++) {
    if (round > 0) await source.change(round);
    const backedUp: Peer[] = [];
    for (const peer of ready) {
      const row = { step: STEP.delete, tool: peer.name };
      if (await attempt(context, row, () => backUp(context, { peer, source, round }))) backedUp.push(peer);
    }
    ready = backedUp;
  }
  for (const peer of ready) await attempt(context, { step: STEP.delete, tool: peer.name }, () => deleteOldest(context, peer));
  await workspace.remove(workspace.path(FOLDER));
}

async function backUp(
  { workspace, runner }: BenchContext,
  how: { readonly peer: Peer; readonly source: SourceFolder; readonly round: number },
): Promise<void> {
  const { peer, source, round } = how;
  if (round === 0) {
    await workspace.fresh(path.join(FOLDER, peer.name));
    await runner.run(peer.init());
  }
  await runner.run(peer.backup(source, `round-${round}`));
}

async function deleteOldest({ runner, report }: BenchContext, peer: Peer): Promise<void> {
  const before = await diskUse(runner, peer.repository);
  const load = await runner.makeCold();
  const deleted = await runner.runAll(peer.deleteOldest());
  const synced = await runner.run({ argv: ['sync', '-f', peer.repository] });
  const storedBytes = await diskUse(runner, peer.repository);
  const usage = addUsage(deleted, synced.usage);
  const note = `with sync -f; repository -${((before - storedBytes) / MIB).toFixed(1)} MiB`;
  report.add({ step: STEP.delete, tool: peer.name, usage, storedBytes, load, note });
}
