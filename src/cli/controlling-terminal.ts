/** The controlling terminal, whatever stdin and stdout are. */
import { openSync } from 'node:fs';
import { ReadStream, WriteStream } from 'node:tty';

export interface ControllingTerminal {
  readonly input: ReadStream;
  readonly output: WriteStream;
}

/** Undefined if there is none: a service, a pipe line, a test. */
export function openControllingTerminal(): ControllingTerminal | undefined {
  try {
    return { input: new ReadStream(openSync('/dev/tty', 'r')), output: new WriteStream(openSync('/dev/tty', 'w')) };
  } catch {
    return undefined;
  }
}
