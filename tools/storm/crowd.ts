/**
 * Many processes of two machines on one repository at once: syncs, prunes, deletions, mounts, restores, checks. Whatever
 * they get in each other's way, what one has committed is what all others read, and only what was chosen is deleted.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import { SeededRandom } from '../random.ts';
import { CROWD_ACTIONS, type CrowdAction, type Member } from './crowd-actions.ts';
import { Ledger } from './ledger.ts';
import type { Machine } from './program.ts';
import { leftovers, mountsBelow, observe, type RepositoryState, violated } from './state.ts';

export interface CrowdOptions {
  /** An empty folder. */
  readonly folder: string;
  readonly seed: string;
  readonly processes: number;
  readonly durationMs: number;
  readonly tell: (line: string) => void;
}

/** For each action: how often it ended how (`done`, `locked`, `gone`). */
export type CrowdReport = Readonly<Record<string, Readonly<Record<string, number>>>>;

const PASSPHRASE = 'storm';
const FAST_SCRYPT = { logN: 10, r: 8, p: 1 } as const;
const VOLUMES = ['one', 'two/a', 'two/b'] as const;
/** The other half runs under another host name, so that neither can judge the other's processes. */
const ELSEWHERE = ['unshare', '--uts', 'sh', '-c', 'hostname elsewhere && exec "$@"', 'sh'] as const;

export async function runCrowd(options: CrowdOptions): Promise<CrowdReport> {
  const { folder, seed, processes, durationMs } = options;
  const root = path.join(folder, 'repository');
  await Repository.init(root, { passphrase: PASSPHRASE, scrypt: FAST_SCRYPT });
  using repository = await Repository.open(root, { passphrase: PASSPHRASE });
  await using pool = new BandPool();
  for (const name of VOLUMES) await repository.createVolume(name, { bandBytes: 262_144 });
  const ledger = new Ledger();
  const report: Record<string, Record<string, number>> = {};
  let failure: unknown;
  const until = performance.now() + durationMs;
  const work = async (number: number): Promise<void> => {
    const random = new SeededRandom(`${seed} ${number}`);
    const home = path.join(folder, `member-${number}`);
    mkdirSync(home);
    const member: Member = { home, random, ledger, volumes: VOLUMES, machine: machineOf(options, number), images: new Map() };
    while (failure === undefined && performance.now() < until) {
      const action = chooseAction(random);
      try {
        const outcome = await action.run(member);
        const counts = report[action.name] ?? {};
        report[action.name] = counts;
        counts[outcome] = (counts[outcome] ?? 0) + 1;
        options.tell(`${number}: ${action.name}: ${outcome}`);
      } catch (error) {
        failure ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: processes }, (_, number) => work(number)));
  if (failure !== undefined) throw failure;
  ledger.verifyPrunes();
  verifyEnd(await observe(repository, pool), ledger);
  const left = [...leftovers(root), ...readdirSync(path.join(root, 'locks')), ...mountsBelow(folder)];
  if (left.length > 0) violated(`left behind although every command came to its end: ${left.join(', ')}`);
  return report;
}

function machineOf({ folder }: CrowdOptions, number: number): Machine {
  const isElsewhere = number % 2 === 1;
  const state = path.join(folder, isElsewhere ? 'state-elsewhere' : 'state');
  const env = { ...process.env, TIMEBAND_REPO: path.join(folder, 'repository'), TIMEBAND_PASSPHRASE: PASSPHRASE, TIMEBAND_STATE_DIR: state };
  return isElsewhere ? { env, wrapper: ELSEWHERE } : { env };
}

function chooseAction(random: SeededRandom): CrowdAction {
  const tickets = CROWD_ACTIONS.flatMap((action) => Array.from({ length: action.weight }, () => action));
  const action = tickets[random.below(tickets.length)];
  if (action === undefined) throw new RangeError('actions: none');
  return action;
}

/** The repository holds the sessions that were committed and not deleted, with their bytes, and no other. @throws Violation */
function verifyEnd(state: RepositoryState, ledger: Ledger): void {
  for (const name of VOLUMES) {
    const found = [...state.values()].find((volume) => volume.name === name)?.sessions ?? violated(`volume ${name} is gone`);
    const expected = ledger.sessionsOf(name);
    for (const { id, digest } of expected) {
      const session = found.find((one) => one.id === id);
      if (session === undefined) violated(`session ${name}@${id} is gone, and nobody deleted it`);
      if (session.digest !== digest) violated(`session ${name}@${id} is not the image that was synced`);
    }
    const strange = found.filter(({ id }) => !expected.some((one) => one.id === id));
    if (strange.length > 0) violated(`sessions of ${name} that nobody made, or that were deleted: ${strange.map(({ id }) => id).join(', ')}`);
  }
}
