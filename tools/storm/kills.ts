/**
 * kill -9 at random moments of every command that writes, again and again on one repository. After each kill every
 * session is read: what was committed is there byte for byte, the command has done all, nothing or a part that is
 * whole in itself, and the next sync succeeds and leaves nothing of what was unfinished.
 */
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import { SeededRandom } from '../random.ts';
import { compareStates, type Outcome } from './compare.ts';
import { KILL_COMMANDS, type KillCommand, type Plan, planFirstSync, planSync, type Scene } from './kill-commands.ts';
import { describeEnd, isRunning, type Machine, type Started, start } from './program.ts';
import type { ScratchImage } from './scratch-image.ts';
import { leftovers, mountsBelow, observe, type RepositoryState, Violation, violated } from './state.ts';

export interface KillOptions {
  /** An empty folder. */
  readonly folder: string;
  readonly seed: string;
  /** Processes to kill; those that ended before their moment are not counted. */
  readonly kills: number;
  /** Ends it earlier. */
  readonly maxDurationMs?: number | undefined;
  readonly commands?: readonly KillCommand[];
  readonly tell: (line: string) => void;
}

/** For each command: how many were killed, and in which state that left the repository. */
export type KillReport = Readonly<Record<string, Readonly<Record<Outcome | 'ended', number>>>>;

const PASSPHRASE = 'storm';
/** A guess costs a millisecond: processes are started by the hundred. */
const FAST_SCRYPT = { logN: 10, r: 8, p: 1 } as const;
const MAX_SESSIONS = 12;
/** Until a command was measured: from its start, and from the first thing that it does to the repository. */
const FIRST_GUESS_MS = { total: 600, work: 200 } as const;
const LONGER = 1.2;

export async function runKills(options: KillOptions): Promise<KillReport> {
  const run = new KillRun(options);
  try {
    await run.prepare();
    const until = performance.now() + (options.maxDurationMs ?? Number.POSITIVE_INFINITY);
    while (run.kills < options.kills && performance.now() < until) await run.round();
    await run.finish();
  } catch (error) {
    if (error instanceof Violation) throw new Violation(`seed ${options.seed}, after ${run.kills} kills, ${run.last}: ${error.message}`);
    throw error;
  } finally {
    await run.close();
  }
  return run.report;
}

class KillRun {
  readonly report: Record<string, Record<Outcome | 'ended', number>> = {};
  kills = 0;
  last = 'at the start';
  readonly #options: KillOptions;
  readonly #random: SeededRandom;
  readonly #repository: string;
  readonly #second: string;
  readonly #machine: Machine;
  readonly #pool = new BandPool();
  readonly #images = new Map<string, ScratchImage>();
  readonly #imageOf = new Map<string, ScratchImage>();
  readonly #measured = new Map<string, { total: number; work: number }>();
  /** Of sessions that were restored. */
  readonly #digests = new Map<string, string>();
  #opened: Repository | undefined;
  #state: RepositoryState = new Map();

  constructor(options: KillOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#repository = path.join(options.folder, 'repository');
    this.#second = path.join(options.folder, 'second');
    const state = path.join(options.folder, 'state');
    this.#machine = {
      env: {
        ...process.env,
        TIMEBAND_REPO: this.#repository,
        TIMEBAND_PASSPHRASE: PASSPHRASE,
        TIMEBAND_TO_PASSPHRASE: PASSPHRASE,
        TIMEBAND_STATE_DIR: state,
      },
    };
  }

  async prepare(): Promise<void> {
    await Repository.init(this.#repository, { passphrase: PASSPHRASE, scrypt: FAST_SCRYPT });
    await Repository.init(this.#second, { passphrase: PASSPHRASE, scrypt: FAST_SCRYPT });
    this.#opened = await Repository.open(this.#repository, { passphrase: PASSPHRASE });
    for (let i = 0; i < 2; i++) await this.#complete(planFirstSync(this.#scene()));
  }

  async close(): Promise<void> {
    this.#opened?.close();
    await this.#pool.close();
  }

  #scene(): Scene {
    return {
      folder: this.#options.folder,
      secondRepository: this.#second,
      random: this.#random,
      state: this.#state,
      images: this.#images,
      imageOf: this.#imageOf,
    };
  }

  /** One command, killed if it does not end before; then one that must succeed. */
  async round(): Promise<void> {
    const { command, plan } = this.#choose();
    this.last = `timeband ${plan.args.join(' ')}`;
    const isKilled = await this.#runAndKill(command.name, plan);
    const outcome = await this.#verify(plan);
    const counts = this.report[command.name] ?? { none: 0, part: 0, all: 0, ended: 0 };
    this.report[command.name] = counts;
    counts[isKilled ? outcome : 'ended']++;
    if (isKilled) this.kills++;
    else if (outcome !== 'all') violated('it ended with 0 and did not do all');
    if (isKilled && outcome === 'none') this.#waitLonger(command.name);
    if (isKilled) this.#options.tell(`${this.kills}: ${command.name}, done: ${outcome}`);
    if (plan.verifyAgain !== undefined) {
      await this.#succeed(plan.args);
      plan.verifyAgain();
    }
    await this.#syncNext();
  }

  #choose(): { readonly command: KillCommand; readonly plan: Plan } {
    const commands = this.#options.commands ?? KILL_COMMANDS;
    const sessions = [...this.#state.values()].reduce((sum, volume) => sum + volume.sessions.length, 0);
    for (;;) {
      const tickets = commands.flatMap((command) => Array.from({ length: command.weight }, () => command));
      const isFull = sessions > MAX_SESSIONS && this.#random.below(2) === 0;
      const command = (isFull ? commands.find(({ name }) => name === 'prune') : undefined) ?? tickets[this.#random.below(tickets.length)];
      const plan = command?.plan(this.#scene());
      if (command !== undefined && plan !== undefined) return { command, plan };
    }
  }

  async #runAndKill(name: string, plan: Plan): Promise<boolean> {
    const guess = this.#measured.get(name) ?? { ...FIRST_GUESS_MS };
    this.#measured.set(name, guess);
    const before = this.#signature(plan);
    const startedAt = performance.now();
    const started = start(this.#machine, plan.args);
    const isBlind = this.#random.below(5) === 0;
    let workMs = 0;
    if (isBlind) await this.#wait(started, this.#random.below(Math.ceil(guess.total)));
    else {
      while (isRunning(started) && this.#signature(plan) === before) await sleep(1);
      workMs = performance.now() - startedAt;
      await this.#wait(started, this.#random.below(Math.ceil(guess.work * 1.2)));
    }
    started.child.kill('SIGKILL');
    const end = await started.ended;
    if (end.signal === 'SIGKILL') return true;
    if (end.status !== 0) violated(describeEnd(end));
    guess.total = end.durationMs;
    if (!isBlind) guess.work = Math.max(5, end.durationMs - workMs);
    return false;
  }

  /** The machine is slower than it was: later moments are to be met, too. */
  #waitLonger(name: string): void {
    const { total, work } = this.#measured.get(name) ?? FIRST_GUESS_MS;
    this.#measured.set(name, { total: total * LONGER, work: work * LONGER });
  }

  async #wait(started: Started, ms: number): Promise<void> {
    const until = performance.now() + ms;
    while (isRunning(started) && performance.now() < until) await sleep(Math.min(2, ms));
  }

  /** Changes as soon as a command does anything: it takes a lock, or makes its output. */
  #signature({ output }: Plan): string {
    const locks = readdirSync(path.join(this.#repository, 'locks')).sort().join();
    const written = output === undefined ? undefined : statSync(output, { throwIfNoEntry: false });
    return `${locks} ${written?.mtimeMs} ${written?.size}`;
  }

  /** @throws Violation if the repository is not what the plan allows */
  async #verify(plan: Plan): Promise<Outcome> {
    const after = await this.#observe(this.#digests);
    const outcome = compareStates({ before: this.#state, after, effect: plan.effect });
    this.#state = after;
    const added = [...after.values()].find(({ name }) => name === plan.effect.appears?.volume);
    const image = added === undefined ? undefined : this.#images.get(added.name);
    if (added !== undefined && image !== undefined && !this.#imageOf.has(added.id)) this.#imageOf.set(added.id, image);
    plan.verify?.();
    const mounted = mountsBelow(this.#options.folder);
    if (mounted.length > 0) violated(`still mounted: ${mounted.join(', ')}`);
    return outcome;
  }

  /** What was copied is what was copied from, byte for byte; deleted sessions may still be there. */
  async #verifyCopies(): Promise<void> {
    using second = await Repository.open(this.#second, { passphrase: PASSPHRASE });
    const originals = new Map([...this.#state.values()].flatMap(({ sessions }) => sessions.map(({ id, digest }) => [id, digest])));
    for (const { name, sessions } of (await observe(second, this.#pool)).values())
      for (const { id, digest } of sessions) if ((originals.get(id) ?? digest) !== digest) violated(`the copy of ${name}@${id} has other bytes`);
  }

  async #observe(digests?: Map<string, string>): Promise<RepositoryState> {
    if (this.#opened === undefined) throw new RangeError('repository: not open');
    return await observe(this.#opened, this.#pool, digests);
  }

  async #succeed(args: readonly string[]): Promise<void> {
    const end = await start(this.#machine, args).ended;
    if (end.status !== 0) violated(`the next command: ${describeEnd(end)}`);
  }

  /** Runs a command to its end; then all that was planned must be done. */
  async #complete(plan: Plan): Promise<void> {
    await this.#succeed(plan.args);
    if ((await this.#verify(plan)) !== 'all') violated(`timeband ${plan.args.join(' ')} ended with 0 and did not do all`);
  }

  /** The next write command, which must succeed and clear what the killed one left. */
  async #syncNext(): Promise<void> {
    const volumes = [...this.#state.values()];
    const volume = volumes[this.#random.below(Math.max(1, volumes.length))];
    await this.#complete(volume === undefined ? planFirstSync(this.#scene()) : planSync(this.#scene(), volume));
    const left = leftovers(this.#repository, volume?.id);
    if (left.length > 0) violated(`left behind after the next sync: ${left.join(', ')}`);
  }

  /** After one more sync of each volume nothing unfinished is anywhere, and no lock keeps anybody out. */
  async finish(): Promise<void> {
    this.last = 'at the end';
    for (const volume of this.#state.values()) await this.#complete(planSync(this.#scene(), volume));
    compareStates({ before: this.#state, after: await this.#observe(), effect: {} }); // every session restored once more
    await this.#verifyCopies();
    const left = leftovers(this.#repository);
    if (left.length > 0) violated(`left behind at the end: ${left.join(', ')}`);
    await this.#succeed(['break-lock']);
    const locks = readdirSync(path.join(this.#repository, 'locks'));
    if (locks.length > 0) violated(`locks are left: ${locks.join(', ')}`);
    rmSync(this.#options.folder, { recursive: true });
  }
}
