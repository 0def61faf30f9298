/** Where the passphrase comes from: an option, the environment, or the terminal. Never from the command line itself. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { ioError, messageOf, TimebandError } from '../../bands/errors.ts';
import type { Terminal } from './terminal.ts';

const run = promisify(execFile);
const MAX_PASSPHRASE_BYTES = 65_536;

export interface PassphraseOptions {
  readonly passphraseFile?: string | undefined;
  readonly passphraseCommand?: string | undefined;
}

/** Variables of the environment, of which each command reads one set: TIMEBAND_PASSPHRASE, TIMEBAND_PASSPHRASE_FILE … */
const FIRST = 'TIMEBAND_PASSPHRASE';
/** Those of the repository that is copied to. */
const SECOND = 'TIMEBAND_TO_PASSPHRASE';

/** The passphrase of an existing repository. @throws TimebandError PASSPHRASE_MISSING */
export async function getPassphrase(options: PassphraseOptions, terminal: Terminal): Promise<string> {
  const given = await givenPassphrase(options, terminal, FIRST);
  if (given !== undefined) return given;
  const asked = await terminal.askSecret('Passphrase: ');
  if (asked !== undefined) return asked;
  throw missing();
}

/** The passphrase of the repository that is copied to, if it was given; it may be asked for later. */
export async function givenSecondPassphrase(options: PassphraseOptions, terminal: Terminal): Promise<string | undefined> {
  return await givenPassphrase(options, terminal, SECOND);
}

/** A passphrase for a new repository: asked twice on a terminal, never empty. */
export async function getNewPassphrase(options: PassphraseOptions, terminal: Terminal): Promise<string> {
  const given = await givenPassphrase(options, terminal, FIRST);
  const passphrase = given ?? (await terminal.askSecret('New passphrase: '));
  if (passphrase === undefined) throw missing();
  if (passphrase === '') throw new TimebandError('the passphrase is empty; nothing was made.', { code: 'USAGE' });
  if (given === undefined && (await terminal.askSecret('The same again: ')) !== passphrase)
    throw new TimebandError('the two passphrases differ; nothing was made.', { code: 'USAGE' });
  return passphrase;
}

function missing(): TimebandError {
  return new TimebandError(
    'no passphrase: there is no terminal to ask on. Set TIMEBAND_PASSPHRASE, or use --passphrase-file or --passphrase-command.',
    { code: 'PASSPHRASE_MISSING' },
  );
}

async function givenPassphrase(options: PassphraseOptions, { env }: Terminal, variable: string): Promise<string | undefined> {
  if (options.passphraseFile !== undefined) return await fromFile(options.passphraseFile);
  if (options.passphraseCommand !== undefined) return await fromCommand(options.passphraseCommand);
  const [passphrase, file, command] = [variable, `${variable}_FILE`, `${variable}_COMMAND`].map((name) => env[name]);
  if (passphrase !== undefined) return passphrase;
  if (file !== undefined) return await fromFile(file);
  if (command !== undefined) return await fromCommand(command);
  return undefined;
}

/** The text without one newline at its end. */
function withoutNewline(text: string): string {
  return text.replace(/\r?\n$/, '');
}

async function fromFile(file: string): Promise<string> {
  try {
    const bytes = await readFile(file); // a link or a pipe is fine: it is the user's own
    if (bytes.length > MAX_PASSPHRASE_BYTES) throw new RangeError(`${bytes.length} bytes are no passphrase`);
    return withoutNewline(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new TimebandError(`cannot read the passphrase: ${ioError(error, 'read', file).message}`, {
      code: 'PASSPHRASE_MISSING',
      cause: error,
      path: file,
    });
  }
}

async function fromCommand(command: string): Promise<string> {
  try {
    const { stdout } = await run('/bin/sh', ['-c', command], { maxBuffer: MAX_PASSPHRASE_BYTES });
    return withoutNewline(stdout);
  } catch (cause) {
    throw new TimebandError(`the passphrase command failed: ${messageOf(cause)}`, { code: 'PASSPHRASE_MISSING', cause });
  }
}
