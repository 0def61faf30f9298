/** Puts a number of inputs through one target; every input is a function of the seed, the target and its number. */
import { TimebandError } from '../../bands/errors.ts';
import { crc32 } from '../../bands/format/crc32.ts';
import { mutate } from './mutate.ts';
import { FastRandom } from './random.ts';
import type { FuzzTarget } from './target.ts';

/** One input may take that long; a busy machine needs far less. */
const MAX_MS = 2000;
/** What decoding may leave behind, over all inputs. */
const MAX_GROWTH_BYTES = 192 * 2 ** 20;
const MEMORY_EVERY = 20_000;

export interface Campaign {
  readonly seed: number;
  readonly first: number;
  readonly inputs: number;
  /** Called now and then: the campaign is alive. */
  readonly onProgress?: (done: number) => void;
}

export interface CampaignResult {
  readonly target: string;
  readonly inputs: number;
  readonly accepted: number;
  readonly refused: number;
  readonly slowestMs: number;
}

/** An input that broke a rule. */
export class FuzzFailure extends Error {
  constructor(target: string, failed: { readonly number: number; readonly input: Uint8Array; readonly cause: unknown }) {
    const cause = failed.cause instanceof Error ? (failed.cause.stack ?? failed.cause.message) : String(failed.cause);
    super(`${target}: input ${failed.number} failed: ${cause}\ninput: ${Buffer.from(failed.input).toString('hex')}`, { cause: failed.cause });
  }
}

function memoryBytes(): number {
  const { rss } = process.memoryUsage();
  return rss;
}

/** @throws FuzzFailure for the first input that breaks a rule */
export function runCampaign(target: FuzzTarget, { seed, first, inputs, onProgress }: Campaign): CampaignResult {
  const base = crc32(Buffer.from(`${seed} ${target.name}`));
  const startBytes = memoryBytes();
  let accepted = 0;
  let slowestMs = 0;
  for (let number = first; number < first + inputs; number++) {
    const input = mutate(target.samples, new FastRandom(base + Math.imul(number, 0x5bd1_e995)));
    const startedAt = performance.now();
    const problem = decodeOne(target, input);
    const tookMs = performance.now() - startedAt;
    slowestMs = Math.max(slowestMs, tookMs);
    if (problem instanceof Error) throw new FuzzFailure(target.name, { number, input, cause: problem });
    if (tookMs > MAX_MS) throw new FuzzFailure(target.name, { number, input, cause: new Error(`it took ${Math.round(tookMs)} ms`) });
    if (problem === undefined) accepted++;
    if ((number - first) % MEMORY_EVERY !== MEMORY_EVERY - 1) continue;
    const grown = memoryBytes() - startBytes;
    if (grown > MAX_GROWTH_BYTES) throw new FuzzFailure(target.name, { number, input, cause: new Error(`memory grew by ${grown} bytes`) });
    onProgress?.(number - first + 1);
  }
  return { target: target.name, inputs, accepted, refused: inputs - accepted, slowestMs };
}

/** Undefined if the input was accepted, true if it was refused as it may be, else the error. */
function decodeOne(target: FuzzTarget, input: Uint8Array): Error | true | undefined {
  const before = Buffer.from(input);
  try {
    target.decode(input);
  } catch (error) {
    if (!(error instanceof TimebandError)) return error instanceof Error ? error : new Error(String(error));
    if (!target.codes.includes(error.code)) return new Error(`refused with ${error.code}: ${error.message}`, { cause: error });
    return before.equals(input) ? true : new Error('the decoder changed its input');
  }
  return undefined;
}
