/**
 * Where the passphrase comes from: an option, the environment, a credential of systemd, or the terminal. Never from the
 * command line itself.
 */
import { execFile } from 'node:child_process';
import { access, readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { ioError, messageOf, TimebandError } from '../../bands/errors.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import type { Terminal } from './terminal.ts';

const run = promisify(execFile);
const MAX_SECRET_BYTES = 65_536;
/** The name of the credential of a systemd unit (LoadCredential=timeband.passphrase:…). */
const CREDENTIAL = 'timeband.passphrase';

export interface PassphraseOptions {
  readonly passphraseFile?: string | undefined;
  readonly passphraseCommand?: string | undefined;
}

/** The passphrase of an existing repository. @throws TimebandError PASSPHRASE_MISSING */
export async function getPassphrase(options: PassphraseOptions, terminal: Terminal): Promise<string> {
  return (await passphraseOfOptions(options)) ?? (await passphraseOfEnvironment(terminal)) ?? (await askOrCredential(terminal));
}

/** The last resorts: a credential of systemd, or asking. @throws TimebandError PASSPHRASE_MISSING */
export async function askOrCredential(terminal: Terminal): Promise<string> {
  const given = (await passphraseOfCredential(terminal)) ?? (await terminal.askSecret('Passphrase: '));
  if (given !== undefined) return given;
  throw missing();
}

/** A passphrase for a new repository. @throws TimebandError PASSPHRASE_MISSING, USAGE */
export async function getNewPassphrase(options: PassphraseOptions, terminal: Terminal): Promise<string> {
  const given = (await passphraseOfOptions(options)) ?? (await passphraseOfEnvironment(terminal)) ?? (await passphraseOfCredential(terminal));
  return await newPassphrase(given, terminal);
}

/** The passphrase of a new key slot. @param file --new-passphrase-file @throws TimebandError PASSPHRASE_MISSING, USAGE */
export async function getAnotherPassphrase(file: string | undefined, terminal: Terminal): Promise<string> {
  return await newPassphrase(file === undefined ? undefined : await readSecretText(file), terminal);
}

/** Asked twice on a terminal, never empty. */
async function newPassphrase(given: string | undefined, terminal: Terminal): Promise<string> {
  const passphrase = given ?? (await terminal.askSecret('New passphrase: '));
  if (passphrase === undefined) throw missing();
  if (passphrase === '') throw new TimebandError('the passphrase is empty; nothing was done.', { code: 'USAGE' });
  if (given === undefined && (await terminal.askSecret('The same again: ')) !== passphrase)
    throw new TimebandError('the two passphrases differ; nothing was done.', { code: 'USAGE' });
  return passphrase;
}

function missing(): TimebandError {
  return new TimebandError(
    'no passphrase: there is no terminal to ask on. Set TIMEBAND_PASSPHRASE, or use --passphrase-file, --passphrase-command or --key-file.',
    { code: 'PASSPHRASE_MISSING' },
  );
}

/** Undefined if no option names one. @throws TimebandError PASSPHRASE_MISSING, USAGE (two are given) */
export async function passphraseOfOptions(options: PassphraseOptions): Promise<string | undefined> {
  if (options.passphraseFile !== undefined && options.passphraseCommand !== undefined)
    throw new TimebandError('a file and a command for one passphrase exclude each other: one is enough.', { code: 'USAGE' });
  if (options.passphraseFile !== undefined) return await readSecretText(options.passphraseFile);
  if (options.passphraseCommand !== undefined) return await fromCommand(options.passphraseCommand);
  return undefined;
}

/** Variables of the environment, of which each command reads one set: TIMEBAND_PASSPHRASE, TIMEBAND_PASSPHRASE_FILE … */
const FIRST = 'TIMEBAND_PASSPHRASE';
/** Those of the repository that is copied to. */
const SECOND = 'TIMEBAND_TO_PASSPHRASE';

/** Undefined if no variable names one. */
export async function passphraseOfEnvironment({ env }: Terminal, variable: typeof FIRST | typeof SECOND = FIRST): Promise<string | undefined> {
  const [passphrase, file, command] = [variable, `${variable}_FILE`, `${variable}_COMMAND`].map((name) => env[name]);
  if (passphrase !== undefined) return passphrase;
  if (file !== undefined) return await readSecretText(file);
  if (command !== undefined) return await fromCommand(command);
  return undefined;
}

/** The passphrase of the repository that is copied to, if it was given; it may be asked for later. */
export async function givenSecondPassphrase(options: PassphraseOptions, terminal: Terminal): Promise<string | undefined> {
  return (await passphraseOfOptions(options)) ?? (await passphraseOfEnvironment(terminal, SECOND));
}

async function passphraseOfCredential({ env }: Terminal): Promise<string | undefined> {
  const directory = env['CREDENTIALS_DIRECTORY'];
  if (directory === undefined || directory === '') return undefined;
  const file = path.join(directory, CREDENTIAL);
  const isThere = await access(file).then(
    () => true,
    () => false, // a unit may have other credentials only
  );
  return isThere ? await readSecretText(file) : undefined;
}

/** The text without one newline at its end. */
function withoutNewline(text: string): string {
  return text.replace(/\r?\n$/, '');
}

/** A file with a secret in it: its bytes, which the caller wipes. A link or a pipe is fine: it is the user's own. @throws TimebandError PASSPHRASE_MISSING */
export async function readSecretFile(file: string, what: string): Promise<Uint8Array> {
  try {
    const bytes = await readFile(file);
    if (bytes.length > MAX_SECRET_BYTES) throw new RangeError(`${bytes.length} bytes are too many`);
    return bytes;
  } catch (error) {
    throw unreadable(file, what, error);
  }
}

function unreadable(file: string, what: string, cause: unknown): TimebandError {
  return new TimebandError(`cannot read the ${what}: ${ioError(cause, 'read', file).message}`, { code: 'PASSPHRASE_MISSING', cause, path: file });
}

/** The passphrase in a file. @throws TimebandError PASSPHRASE_MISSING */
async function readSecretText(file: string): Promise<string> {
  const bytes = await readSecretFile(file, 'passphrase');
  try {
    return withoutNewline(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw unreadable(file, 'passphrase', error);
  } finally {
    wipeKeys(bytes);
  }
}

async function fromCommand(command: string): Promise<string> {
  try {
    const { stdout } = await run('/bin/sh', ['-c', command], { maxBuffer: MAX_SECRET_BYTES });
    return withoutNewline(stdout);
  } catch (cause) {
    throw new TimebandError(`the passphrase command failed: ${messageOf(cause)}`, { code: 'PASSPHRASE_MISSING', cause });
  }
}
