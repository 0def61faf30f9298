/** Which of the wanted tools are here. */
import { mkdir } from 'node:fs/promises';
import type { Runner } from '../measure.ts';
import { PEER_NAMES, type PeerName } from '../settings.ts';
import type { Workspace } from '../workspace.ts';
import { BORG_DEFAULT, BORG_FIXED, BorgPeer } from './borg.ts';
import type { Peer } from './peer.ts';
import { ResticPeer } from './restic.ts';
import { TimebandPeer } from './timeband.ts';

export interface FoundPeers {
  readonly timeband: TimebandPeer;
  /** Timeband first. */
  readonly peers: readonly Peer[];
  /** `borg 1.2.4`, for the report. */
  readonly versions: readonly string[];
  readonly missing: readonly PeerName[];
}

const MAKERS: Readonly<Record<PeerName, (directory: (name: string) => string) => Peer[]>> = {
  borg: (directory) => [BORG_FIXED, BORG_DEFAULT].map((variant) => new BorgPeer(directory(variant.name), variant)),
  restic: (directory) => [new ResticPeer(directory('restic'))],
};

/** Finds the tools and makes an empty folder for each. */
export async function findPeers(workspace: Workspace, runner: Runner, names: readonly PeerName[]): Promise<FoundPeers> {
  const timeband = new TimebandPeer(workspace.path('timeband'));
  const peers: Peer[] = [timeband];
  const versions = [`timeband ${await versionOf(timeband, runner)}`];
  const missing: PeerName[] = [];
  for (const name of names) {
    const made = MAKERS[name]((tool) => workspace.path(tool));
    try {
      versions.push(await versionOf(made[0] ?? timeband, runner));
      peers.push(...made);
    } catch {
      missing.push(name); // not installed, or not able to start
    }
  }
  for (const { name } of peers) await mkdir(workspace.path(name));
  return { timeband, peers, versions, missing };
}

/** The tools that were found, once more, with repositories of their own below `directory(name)`. */
export function makePeers(found: FoundPeers, directory: (name: string) => string): Peer[] {
  const names = PEER_NAMES.filter(
    (name) => !found.missing.includes(name) && MAKERS[name](directory).some(({ name: tool }) => found.peers.some((peer) => peer.name === tool)),
  );
  return [new TimebandPeer(directory('timeband')), ...names.flatMap((name) => MAKERS[name](directory))];
}

async function versionOf(peer: Peer, runner: Runner): Promise<string> {
  return (await runner.run(peer.version())).stdout.trim();
}
