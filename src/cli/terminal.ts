/** What the command line has of the outside: streams, environment, a way to ask, a signal to stop. Tests give their own. */
import type { Writable } from 'node:stream';

export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Characters in a line of stdout; undefined if it is no terminal. */
  readonly stdoutColumns: number | undefined;
  /** Whether stderr is a terminal that a progress bar can be drawn on. */
  readonly isInteractive: boolean;
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** Asks on the terminal without echo; undefined if there is none. */
  askSecret(prompt: string): Promise<string | undefined>;
  /** Asks on the terminal; undefined if there is none. */
  askLine(question: string): Promise<string | undefined>;
}
