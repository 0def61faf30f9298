/** What every step works with. */
import { messageOf } from '../../bands/errors.ts';
import type { BaseImage } from './image.ts';
import type { Runner, Usage } from './measure.ts';
import type { FoundPeers } from './peers/find-peers.ts';
import type { Report } from './report.ts';
import type { Settings } from './settings.ts';
import type { SourceFolder } from './source.ts';
import type { Workspace } from './workspace.ts';

export interface BenchContext {
  readonly settings: Settings;
  readonly workspace: Workspace;
  readonly runner: Runner;
  readonly report: Report;
  readonly found: FoundPeers;
  readonly base: BaseImage;
  readonly source: SourceFolder;
  readonly signal: AbortSignal;
}

/** What a folder takes on disk, in bytes; hardlinks count once. */
export async function diskUse(runner: Runner, directory: string): Promise<number> {
  await runner.run({ argv: ['sync', '-f', directory] });
  return Number((await runner.run({ argv: ['du', '-s', '-B1', directory] })).stdout.split('\t')[0]);
}

/** Runs a part of the benchmark; if it fails, that is a row of the table, and the rest goes on. */
export async function attempt(
  context: BenchContext,
  row: { readonly step: string; readonly tool: string },
  run: () => Promise<void>,
): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    context.signal.throwIfAborted();
    context.report.addFailure(row.step, row.tool, messageOf(error));
    return false;
  }
}

/** `1234 MiB/s`. */
export function formatRate(bytes: number, { wallMs }: Pick<Usage, 'wallMs'>): string {
  return `${Math.round(bytes / 1_048_576 / (wallMs / 1000))} MiB/s`;
}
