/** Asking for a passphrase on the controlling terminal, whatever stdin and stdout are. */
import type { ReadStream } from 'node:tty';
import { TimebandError } from '../../bands/errors.ts';
import { openControllingTerminal } from './controlling-terminal.ts';

const CTRL_C = '\u0003';
const CTRL_D = '\u0004';
const CTRL_U = '\u0015';
const ERASE = new Set(['\b', '\u007f']);
const ENTER = new Set(['\r', '\n', CTRL_D]);

/** What was typed, or undefined if there is no terminal. @throws TimebandError INTERRUPTED on Ctrl-C */
export async function askSecret(prompt: string): Promise<string | undefined> {
  const terminal = openControllingTerminal();
  if (terminal === undefined) return undefined;
  const { input, output } = terminal;
  output.write(prompt);
  input.setRawMode(true);
  input.setEncoding('utf8');
  try {
    return await readLine(input);
  } finally {
    input.setRawMode(false);
    input.destroy();
    output.write('\n');
    output.end();
  }
}

async function readLine(input: ReadStream): Promise<string> {
  const typed: string[] = [];
  for await (const text of input) {
    for (const key of String(text)) {
      if (ENTER.has(key)) return typed.join('');
      if (key === CTRL_C) throw new TimebandError('interrupted.', { code: 'INTERRUPTED' });
      if (key === CTRL_U) typed.length = 0;
      else if (ERASE.has(key)) typed.pop();
      else typed.push(key);
    }
  }
  return typed.join('');
}
