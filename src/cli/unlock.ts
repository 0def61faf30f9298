/** What opens the repository: a passphrase, a key file, a recovery phrase, or one volume's key; and from where it comes. */
import { TimebandError } from '../../bands/errors.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import { type VolumeKey, volumeKeyCodec } from '../../bands/format/volume-key.ts';
import { wipeGrant } from '../keys/key-ring.ts';
import type { OfferedSecret } from '../keys/slot-secret.ts';
import type { Unlock } from '../repository.ts';
import { askOrCredential, type PassphraseOptions, passphraseOfEnvironment, passphraseOfOptions, readSecretFile } from './passphrase.ts';
import type { Terminal } from './terminal.ts';

export interface UnlockOptions extends PassphraseOptions {
  readonly keyFile?: string | undefined;
  /** Ask for a recovery phrase. */
  readonly recoveryPhrase?: true | undefined;
  readonly volumeKeyFile?: string | undefined;
}

const FLAGS: Readonly<Record<keyof UnlockOptions, string>> = {
  passphraseFile: '--passphrase-file',
  passphraseCommand: '--passphrase-command',
  keyFile: '--key-file',
  recoveryPhrase: '--recovery-phrase',
  volumeKeyFile: '--volume-key-file',
};

/** Options go before variables, these before a credential of systemd, and that before asking. @throws TimebandError USAGE, PASSPHRASE_MISSING, WRONG_KEY */
export async function getUnlock(options: UnlockOptions, terminal: Terminal): Promise<Unlock> {
  const given = (Object.keys(FLAGS) as (keyof UnlockOptions)[]).filter((name) => options[name] !== undefined);
  if (given.length > 1)
    throw new TimebandError(`${given.map((name) => FLAGS[name]).join(' and ')} exclude each other: one key is enough.`, { code: 'USAGE' });
  return (await unlockByOption(options, terminal)) ?? (await unlockByVariable(terminal)) ?? { passphrase: await askOrCredential(terminal) };
}

async function unlockByOption(options: UnlockOptions, terminal: Terminal): Promise<Unlock | undefined> {
  const passphrase = await passphraseOfOptions(options);
  if (passphrase !== undefined) return { passphrase };
  if (options.keyFile !== undefined) return { keyFile: await readSecretFile(options.keyFile, 'key file') };
  if (options.recoveryPhrase === true) return { recoveryPhrase: await askRecoveryPhrase(terminal) };
  if (options.volumeKeyFile !== undefined) return { volumeKey: await readVolumeKey(options.volumeKeyFile) };
  return undefined;
}

async function unlockByVariable(terminal: Terminal): Promise<Unlock | undefined> {
  const passphrase = await passphraseOfEnvironment(terminal);
  if (passphrase !== undefined) return { passphrase };
  const { TIMEBAND_KEY_FILE: keyFile, TIMEBAND_RECOVERY_PHRASE: recoveryPhrase, TIMEBAND_VOLUME_KEY_FILE: volumeKeyFile } = terminal.env;
  if (keyFile !== undefined) return { keyFile: await readSecretFile(keyFile, 'key file') };
  if (recoveryPhrase !== undefined) return { recoveryPhrase };
  return volumeKeyFile === undefined ? undefined : { volumeKey: await readVolumeKey(volumeKeyFile) };
}

async function askRecoveryPhrase(terminal: Terminal): Promise<string> {
  const asked = await terminal.askSecret('Recovery phrase (24 words, not shown): ');
  if (asked !== undefined) return asked;
  throw new TimebandError('no recovery phrase: there is no terminal to ask on. Set TIMEBAND_RECOVERY_PHRASE instead.', {
    code: 'PASSPHRASE_MISSING',
  });
}

async function readVolumeKey(file: string): Promise<VolumeKey> {
  const bytes = await readSecretFile(file, 'volume key');
  try {
    return volumeKeyCodec.decode(bytes);
  } catch {
    // Without its cause, which --debug would show: JSON.parse quotes what it stumbles over, and this may be another secret.
    throw new TimebandError(`${file} is no volume key, or damaged. Export it again with "timeband key export".`, { code: 'WRONG_KEY', path: file });
  } finally {
    wipeKeys(bytes);
  }
}

/** Overwrites what of it can be overwritten: texts are the engine's. */
export function wipeUnlock(unlock: Unlock): void {
  if ('keyFile' in unlock) wipeKeys(unlock.keyFile);
  else if ('masterKey' in unlock || 'volumeKey' in unlock) wipeGrant(unlock);
}

/** @throws TimebandError USAGE for a volume key */
export function requireOffered(unlock: Unlock): OfferedSecret {
  if (!('masterKey' in unlock || 'volumeKey' in unlock)) return unlock;
  throw new TimebandError('a volume key opens no key slots. Use a passphrase, a key file or a recovery phrase.', { code: 'USAGE' });
}
