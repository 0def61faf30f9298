/** The steps in the order in which they run: later ones need the repositories and the image as earlier ones left them. */
import type { BenchContext } from '../context.ts';
import { Report } from '../report.ts';
import type { StepName } from '../settings.ts';
import { firstBackup, incrementalBackup, touchedBackup } from './backups.ts';
import { deleteAll } from './delete.ts';
import { hardlinks } from './hardlinks.ts';
import { manyFiles } from './many-files.ts';
import { mountAll } from './mounts.ts';
import { copyOverNbd } from './nbd.ts';
import { rawLimits } from './raw-limits.ts';
import { reads } from './reads.ts';
import { reflink } from './reflink.ts';
import { restoreAll } from './restore.ts';
import { sessions } from './sessions.ts';
import { verifyAll } from './verify.ts';
import { writes } from './writes.ts';

type Step = (context: BenchContext) => Promise<void>;

const STEPS: readonly (readonly [name: StepName, run: Step])[] = [
  ['raw', rawLimits],
  ['first', firstBackup],
  ['touched', touchedBackup],
  ['incremental', incrementalBackup],
  ['restore', restoreAll],
  ['mount', mountAll],
  ['nbd', copyOverNbd],
  ['reads', reads],
  ['files', manyFiles],
  ['verify', verifyAll],
  ['hardlinks', hardlinks],
  ['reflink', reflink],
  ['delete', deleteAll],
  ['sessions', sessions],
  ['writes', writes],
];
/** What these read must have been backed up. */
const NEEDS_BACKUP: ReadonlySet<StepName> = new Set(['touched', 'incremental', 'restore', 'mount', 'nbd', 'reads', 'verify']);

/** Runs the steps that were asked for; a first backup that others need is made without a row. */
export async function runSteps(context: BenchContext): Promise<void> {
  const wanted = new Set(context.settings.steps);
  const needsBackup = context.settings.steps.some((name) => NEEDS_BACKUP.has(name));
  for (const [name, run] of STEPS) {
    context.signal.throwIfAborted();
    if (wanted.has(name)) await run(context);
    else if (name === 'first' && needsBackup) await firstBackup({ ...context, report: new Report(() => undefined) });
  }
}
