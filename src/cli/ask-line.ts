/** Asking a question on the controlling terminal, whatever stdin and stdout are. */
import { createInterface } from 'node:readline/promises';
import { TimebandError } from '../../bands/errors.ts';
import { openControllingTerminal } from './controlling-terminal.ts';

/** What was typed, or undefined if there is no terminal. @throws TimebandError INTERRUPTED on Ctrl-C */
export async function askLine(question: string, signal: AbortSignal): Promise<string | undefined> {
  const terminal = openControllingTerminal();
  if (terminal === undefined) return undefined;
  const { input, output } = terminal;
  const lines = createInterface({ input, output });
  const stop = new AbortController();
  lines.once('SIGINT', () => stop.abort());
  lines.once('close', () => stop.abort()); // Ctrl-D
  try {
    return await lines.question(question, { signal: AbortSignal.any([stop.signal, signal]) });
  } catch (cause) {
    throw new TimebandError('interrupted.', { code: 'INTERRUPTED', cause });
  } finally {
    lines.close();
    input.destroy();
    output.end();
  }
}
