/** A command again and again, each time with another operation failing, and what is found wrong afterwards. */
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { type ArmedFault, type Effect, FAULTS, type FaultName, type Injected } from '../../support/faulty-fs/fault-plan.ts';
import type { FaultCommand } from './commands.ts';
import type { Scene } from './scene.ts';

const BASE = 'base';
const START = 'start';
/** More operations than any command has: with a power cut, it strikes when the command is done. */
export const NEVER = 1_000_000;

/** What a command may say of it, by its cause. */
const CODES: Readonly<Record<Effect, string>> = {
  EIO: 'IO_ERROR',
  ENOSPC: 'NO_SPACE',
  EROFS: 'PERMISSION_DENIED',
  EMFILE: 'IO_ERROR',
  short: 'NO_SPACE',
  cut: 'IO_ERROR',
};

export interface Tally {
  readonly command: string;
  readonly fault: FaultName;
  /** Times the command was run with a fault in it. */
  runs: number;
  /** Operations that failed. */
  injected: number;
  /** Runs that ended with an error; the others were done in spite of the fault. */
  failed: number;
  readonly complaints: string[];
}

export function describeTally({ command, fault, runs, injected, failed, complaints }: Tally): string {
  return `${command} | ${fault} | ${runs} runs, ${injected} faults, ${failed} errors, ${complaints.length} complaints`;
}

export class FaultRun {
  readonly #scene: Scene;
  #prepared: FaultCommand | undefined;
  #hasBase = false;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  /** Runs it without a fault. @returns how many of its operations a fault can strike */
  async count(command: FaultCommand): Promise<(name: FaultName) => number> {
    await this.#prepare(command);
    const { injected, problems } = await this.#once(command, { name: 'one EIO', at: NEVER, under: placesOf(command), seed: 0 });
    if (problems[0] !== undefined) throw new Error(`${command.name} without a fault: ${problems.join('; ')}`);
    return (name) => FAULTS[name].among.reduce((sum, operation) => sum + (injected.seen[operation] ?? 0), 0);
  }

  /** Runs it once for each of `operations`, counted from 1: that one fails. */
  async series(
    command: FaultCommand,
    name: FaultName,
    { operations, seed }: { readonly operations: readonly number[]; readonly seed: number },
  ): Promise<Tally> {
    await this.#prepare(command);
    const tally: Tally = { command: command.name, fault: name, runs: 0, injected: 0, failed: 0, complaints: [] };
    for (const at of operations) {
      const { injected, error, problems } = await this.#once(command, { name, at, under: placesOf(command), seed });
      for (const problem of problems)
        tally.complaints.push(`${command.name}, ${name} at ${at} (${injected.first ?? 'not reached'}, seed ${seed}): ${problem}`);
      if (injected.count === 0) continue;
      tally.runs++;
      tally.injected += injected.count;
      if (error !== undefined) tally.failed++;
    }
    return tally;
  }

  /** Each command starts from the same repository, changed as it asks for. */
  async #prepare(command: FaultCommand): Promise<void> {
    if (this.#prepared === command) return;
    await this.begin();
    await command.prepare?.(this.#scene);
    await this.#scene.fs.save(START);
    this.#prepared = command;
  }

  /** The repository as it was made, and an image that has changed since. */
  async begin(): Promise<void> {
    const { fs } = this.#scene;
    if (this.#hasBase) await fs.reset(BASE);
    else await fs.save(BASE);
    this.#hasBase = true;
    this.#prepared = undefined;
    this.#scene.writeImage(4, 8);
  }

  async #once(
    command: FaultCommand,
    armed: ArmedFault,
  ): Promise<{ readonly injected: Injected; readonly error: unknown; readonly problems: string[] }> {
    const scene = this.#scene;
    await scene.fs.reset(START);
    await scene.fs.arm(armed);
    const error = await failureOf(() => scene.open((opened) => command.run(opened)));
    const injected = await scene.fs.disarm();
    const problems = judgeError(error, command, { armed, injected }).map((problem) => `${problem}: ${textOf(error)}`);
    const verification = await failureOf(() =>
      scene.inCopy(async (copy) => {
        copy.endProcess();
        problems.push(...((await command.problems?.(copy)) ?? []));
        const takes = command.takes?.(copy).map(({ id }) => id) ?? [];
        await copy.open(async (opened) => {
          if (error === undefined && !(await command.isDone(opened))) problems.push('it said that it was done, and is not');
          problems.push(...(await copy.problems(opened, takes, command.takesNewest === true && injected.count > 0)));
        });
      }),
    );
    if (verification !== undefined) problems.push(`afterwards: ${textOf(verification)}`);
    return { injected, error, problems };
  }
}

function placesOf({ under }: FaultCommand): readonly string[] {
  return under ?? ['/repo'];
}

/** The catalog is a cache, so a command that cannot use it succeeds; else an error is of the kind of its cause and names a file. */
function judgeError(
  error: unknown,
  command: FaultCommand,
  { armed, injected }: { readonly armed: ArmedFault; readonly injected: Injected },
): string[] {
  const { effect } = FAULTS[armed.name];
  if (error === undefined) return [];
  if (injected.count === 0) return ['it failed without a fault'];
  if (!(error instanceof TimebandError)) return ['an internal error'];
  if (command.isCatalog === true && effect !== 'cut') return ['it failed for the sake of the catalog'];
  const isDamage = error.code === command.code && (effect === 'EIO' || effect === 'cut');
  if (error.code !== CODES[effect] && !isDamage) return [`code ${error.code} instead of ${CODES[effect]}`];
  return error.message.includes('/') ? [] : ['the message names no file'];
}

async function failureOf(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error ?? new Error('undefined was thrown');
  }
}

function textOf(error: unknown): string {
  return error instanceof TimebandError
    ? `${error.code} ${error.message}`
    : error instanceof Error
      ? (error.stack ?? error.message)
      : messageOf(error);
}
