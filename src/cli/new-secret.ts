/** Making what opens a repository: recovery phrases and key files. */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { TimebandError } from '../../bands/errors.ts';
import { toHex, utf8 } from '../../bands/format/bytes.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import { encodeRecoveryPhrase, PHRASE_ENTROPY_BYTES } from '../../bands/format/recovery-phrase.ts';
import { phraseGrid } from '../keys/paper.ts';
import type { CommandContext } from './context.ts';
import { writeOutput } from './write-output.ts';

const KEY_FILE_RANDOM_BYTES = 32;

export function makeRecoveryPhrase(): string {
  const entropy = randomBytes(PHRASE_ENTROPY_BYTES);
  const phrase = encodeRecoveryPhrase(entropy);
  wipeKeys(entropy);
  return phrase;
}

/**
 * Makes a key file (a line of 64 hex digits, so that it can be printed and typed), durable before `use` gets its content;
 * if that fails, there is no file.
 * @throws TimebandError TARGET_EXISTS, IO_ERROR
 */
export async function makeKeyFile<T>(file: string, use: (content: Uint8Array) => Promise<T>): Promise<T> {
  const random = randomBytes(KEY_FILE_RANDOM_BYTES);
  const content = utf8(`${toHex(random)}\n`);
  try {
    await writeOutput(file, content, 'A key file is always a new one: name another.');
    return await use(content).catch(async (error: unknown) => {
      await rm(file, { force: true }).catch(() => undefined); // it opens nothing; the error says what to do
      throw error;
    });
  } finally {
    wipeKeys(random, content);
  }
}

/** @throws TimebandError USAGE if what must be shown once would not be */
export function requireShown(context: CommandContext): void {
  if (context.options.quiet === true && context.options.json !== true)
    throw new TimebandError('--quiet would not show the recovery phrase, which is shown this once: leave one of them out.', { code: 'USAGE' });
}

/** The words, and what they are. */
export function describePhrase(phrase: string): string {
  return `This recovery phrase opens the repository. It is not kept and not shown again: write it down, and keep it away from the backup.\n\n${phraseGrid(phrase)}\n`;
}
