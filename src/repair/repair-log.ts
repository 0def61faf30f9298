/** What a repair did, or would do. */
import { isDamage } from '../damage-log.ts';

export interface RepairAction {
  /** The volume's name, or its id where the name cannot be read; undefined: of the repository. */
  readonly volume: string | undefined;
  readonly session: string | undefined;
  /** What was mended: "index page 3", "band 17". */
  readonly what: string;
  /** By what it was mended, or what became of it. */
  readonly how: string;
  /** Something could not be had back: what stands there now is made up. */
  readonly isLoss: boolean;
}

/** What it is about; the log adds nothing to it. */
export type Where = Partial<Pick<RepairAction, 'volume' | 'session'>>;

export class RepairLog {
  readonly actions: RepairAction[] = [];
  /** What could not be replaced, and why. */
  readonly warnings: string[] = [];
  readonly isDryRun: boolean;

  constructor(isDryRun: boolean) {
    this.isDryRun = isDryRun;
  }

  note(where: Where, what: string, how: string, isLoss = false): void {
    this.actions.push({ volume: where.volume, session: where.session, what, how, isLoss });
  }

  /** Notes it and does it, unless it is only to be told. */
  async act(
    where: Where,
    done: { readonly what: string; readonly how: string; readonly isLoss?: boolean },
    work: () => Promise<void>,
  ): Promise<void> {
    if (!this.isDryRun) await work();
    this.note(where, done.what, done.how, done.isLoss);
  }

  /** Does a part of the work. What cannot be replaced there (a folder in the place of a file, say) keeps nothing else from being mended. */
  async attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.warnings.push(error.message);
    }
  }
}
