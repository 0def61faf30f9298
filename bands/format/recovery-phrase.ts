/**
 * A recovery phrase: 24 words of BIP-39's English list for 256 random bits and an 8-bit checksum. FORMAT.md, "Key slot".
 * What opens a slot is these 32 bytes; BIP-39's derivation of wallets' seeds plays no part.
 */
import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { TimebandError } from '../errors.ts';

/** Random bytes behind a phrase. */
export const PHRASE_ENTROPY_BYTES = 32;
export const PHRASE_WORDS = 24;
const KNOWN_WORDS: ReadonlySet<string> = new Set(wordlist);

/** The 24 words, separated by spaces, of 32 bytes. */
export function encodeRecoveryPhrase(entropy: Uint8Array): string {
  if (entropy.length !== PHRASE_ENTROPY_BYTES) throw new RangeError(`entropy: must be ${PHRASE_ENTROPY_BYTES} bytes`);
  return entropyToMnemonic(entropy, wordlist);
}

/**
 * The 32 bytes of a phrase as somebody typed it: in any case, with any white space. Messages tell places, never words: they may be logged.
 * @throws TimebandError WRONG_KEY saying what is wrong with the typing
 */
export function decodeRecoveryPhrase(text: string): Uint8Array {
  const words = text
    .normalize('NFKD')
    .toLowerCase()
    .split(/\s+/u)
    .filter((word) => word !== '');
  const unknown = words.flatMap((word, i) => (KNOWN_WORDS.has(word) ? [] : [i + 1]));
  if (unknown.length > 0) {
    const places = unknown.length === 1 ? `word ${unknown[0]} is` : `words ${unknown.join(', ')} are`;
    throw wrong(`${places} not in the list of words (BIP-39, English); see the paper again`);
  }
  if (words.length !== PHRASE_WORDS) throw wrong(`it has ${words.length} words; a recovery phrase has ${PHRASE_WORDS}`);
  try {
    return mnemonicToEntropy(words.join(' '), wordlist);
  } catch {
    throw wrong('all words are in the list, but its checksum is wrong: a word was exchanged for another, or their order');
  }
}

function wrong(message: string): TimebandError {
  return new TimebandError(`the recovery phrase was not typed right: ${message}.`, { code: 'WRONG_KEY' });
}
