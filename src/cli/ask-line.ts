/** Asking a question on the controlling terminal, whatever stdin and stdout are. */
import { openSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { ReadStream, WriteStream } from 'node:tty';
import { TimebandError } from '../../bands/errors.ts';

/** What was typed, or undefined if there is no terminal. @throws TimebandError INTERRUPTED on Ctrl-C */
export async function askLine(question: string, signal: AbortSignal): Promise<string | undefined> {
  let input: ReadStream;
  let output: WriteStream;
  try {
    input = new ReadStream(openSync('/dev/tty', 'r'));
    output = new WriteStream(openSync('/dev/tty', 'w'));
  } catch {
    return undefined; // no controlling terminal: a service, a pipe line, a test
  }
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
