/** What the user offers to open a key slot with, as the bytes that scrypt gets. FORMAT.md, "Key slot". */
import { TimebandError } from '../../bands/errors.ts';
import { utf8 } from '../../bands/format/bytes.ts';
import type { SlotKind } from '../../bands/format/key-slot.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import { decodeRecoveryPhrase } from '../../bands/format/recovery-phrase.ts';

export const MIN_KEY_FILE_BYTES = 32;
export const MAX_KEY_FILE_BYTES = 65_536;
const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** A secret in one of the forms in which people have one. */
export type OfferedSecret = { readonly passphrase: string } | { readonly keyFile: Uint8Array } | { readonly recoveryPhrase: string };

/** Owns its bytes: disposing of it overwrites them. (The text that they came from is the engine's, and out of reach.) */
export class SlotSecret {
  readonly kind: SlotKind;
  readonly bytes: Uint8Array;

  private constructor(kind: SlotKind, bytes: Uint8Array) {
    this.kind = kind;
    this.bytes = bytes;
  }

  /** @throws TimebandError WRONG_KEY for a recovery phrase with a typing error, or a file that is no key file */
  static of(offered: OfferedSecret): SlotSecret {
    if ('keyFile' in offered) return new SlotSecret('key-file', keyFileBytes(offered.keyFile));
    if ('recoveryPhrase' in offered) return new SlotSecret('recovery-phrase', decodeRecoveryPhrase(offered.recoveryPhrase));
    return new SlotSecret('passphrase', utf8(offered.passphrase.normalize('NFC'))); // so that every keyboard gives the same bytes
  }

  [Symbol.dispose](): void {
    wipeKeys(this.bytes);
  }
}

/** All of the file but one newline at its end, which an editor puts there: a copy. */
function keyFileBytes(content: Uint8Array): Uint8Array {
  let end = content.length;
  if (content[end - 1] === LINE_FEED) end--;
  if (end < content.length && content[end - 1] === CARRIAGE_RETURN) end--;
  if (end >= MIN_KEY_FILE_BYTES && content.length <= MAX_KEY_FILE_BYTES) return Uint8Array.from(content.subarray(0, end)); // slice() of a Buffer would be a view
  throw new TimebandError(
    `a file of ${content.length} bytes is no key file: those have ${MIN_KEY_FILE_BYTES} to ${MAX_KEY_FILE_BYTES}. Make one with "timeband key add --new-key-file".`,
    { code: 'WRONG_KEY' },
  );
}
