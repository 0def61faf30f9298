/**
 * Adding, replacing and removing key slots of an open repository. The master key stays what it is, so no band is touched,
 * and whoever has the repository open goes on undisturbed. A slot file appears and is replaced by rename.
 */
import { rm } from 'node:fs/promises';
import { TimebandError } from '../../bands/errors.ts';
import { fromHex, toHex } from '../../bands/format/bytes.ts';
import { DEFAULT_SCRYPT, type ScryptParameters, SLOT_ID_BYTES } from '../../bands/format/key-slot.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import { syncDirectory } from '../../bands/store/files.ts';
import type { Lock } from '../locks.ts';
import { refreshRecoveryScript } from '../recovery-script.ts';
import type { Repository } from '../repository.ts';
import { SECRET_NAMES } from './open-slots.ts';
import type { SlotSecret } from './slot-secret.ts';
import { type FoundSlot, listSlots, MAX_SLOTS, makeSlot, trySlot, writeSlot } from './slots.ts';

/** Two commands that change slots take turns: each of two must not remove what the other counts on. */
async function lockSlots(repository: Repository, command: string): Promise<Lock> {
  return await repository.lock({ scope: 'keys', what: 'the list of key slots', command });
}

/** Adds a slot. @returns its id @throws TimebandError UNSUPPORTED (64 are there), WRONG_KEY (opened with a volume key), LOCKED */
export async function addSlot(repository: Repository, secret: SlotSecret, scrypt: ScryptParameters = DEFAULT_SCRYPT): Promise<string> {
  await using _lock = await lockSlots(repository, 'key add');
  const { keys } = repository.layout;
  if ((await listSlots(keys, repository.configDigest)).length >= MAX_SLOTS)
    throw new TimebandError(`${keys} has ${MAX_SLOTS} key slots, and no more are ever tried; remove one first ("timeband key list").`, {
      code: 'UNSUPPORTED',
      path: keys,
    });
  return await putSlot(repository, secret, { scrypt, slotId: undefined });
}

/**
 * Gives the passphrase slot `slotId` another passphrase, which takes the place of the old one in one step.
 * @throws TimebandError USAGE (no such slot), WRONG_KEY (opened with a volume key), LOCKED
 */
export async function replaceSlot(
  repository: Repository,
  secret: SlotSecret,
  { slotId, scrypt = DEFAULT_SCRYPT }: { readonly slotId: string; readonly scrypt?: ScryptParameters },
): Promise<void> {
  await using _lock = await lockSlots(repository, 'key change-passphrase');
  const found = requireSlot(await listSlots(repository.layout.keys, repository.configDigest), slotId);
  if (found.slot !== undefined && found.slot.kind !== secret.kind)
    throw new TimebandError(`key slot ${slotId} is for a ${SECRET_NAMES[found.slot.kind]}, which cannot be changed: add a new one, then remove it.`, {
      code: 'USAGE',
    });
  await putSlot(repository, secret, { scrypt, slotId });
}

interface SlotPlace {
  readonly scrypt: ScryptParameters;
  /** Undefined: a new one. */
  readonly slotId: string | undefined;
}

/** The script in the repository is brought to this version first: one that does not know the slot could not open it. */
async function putSlot(repository: Repository, secret: SlotSecret, { scrypt, slotId }: SlotPlace): Promise<string> {
  const grant = repository.exportKey();
  if (!('masterKey' in grant)) {
    wipeKeys(grant.volumeKey.key);
    throw new TimebandError('a volume key opens no key slots and cannot change them. Use the passphrase.', { code: 'WRONG_KEY' });
  }
  try {
    const { layout, configDigest } = repository;
    const id = slotId === undefined ? undefined : fromHex(slotId, SLOT_ID_BYTES);
    const slot = await makeSlot(secret, { masterKey: grant.masterKey, configDigest, scrypt, ...(id === undefined ? {} : { id }) });
    await refreshRecoveryScript(layout);
    await writeSlot(layout.keys, slot);
    return toHex(slot.id);
  } finally {
    wipeKeys(grant.masterKey);
  }
}

/**
 * Removes a slot, damaged or not, if `secret` opens one that stays: so the last one is never removed, nor the last one
 * that anybody here can open.
 * @throws TimebandError USAGE (no such slot, or none would stay that the secret opens), WRONG_KEY, LOCKED
 */
export async function removeSlot(repository: Repository, secret: SlotSecret, slotId: string): Promise<void> {
  await using _lock = await lockSlots(repository, 'key remove');
  const { layout, configDigest } = repository;
  const found = await listSlots(layout.keys, configDigest);
  const doomed = requireSlot(found, slotId);
  const others = found.filter(({ id, slot, problem }) => id !== slotId && slot !== undefined && problem === undefined);
  if (others.length === 0) {
    throw new TimebandError(
      `${slotId} is the last key slot that can be used; without it nothing could be read any more. Nothing was removed; add another first ("timeband key add").`,
      { code: 'USAGE' },
    );
  }
  if ((await slotsOpenedBy(repository, secret)).every((id) => id === slotId)) {
    throw new TimebandError(
      `your ${SECRET_NAMES[secret.kind]} opens only ${slotId}, the slot to be removed. Nothing was removed; say it with a key that stays, to show that there is one.`,
      { code: 'USAGE' },
    );
  }
  await rm(doomed.file);
  await syncDirectory(layout.keys);
}

function requireSlot(found: readonly FoundSlot[], slotId: string): FoundSlot {
  const match = found.find(({ id }) => id === slotId);
  if (match !== undefined) return match;
  const known = found.map(({ id }) => id).join(', ');
  throw new TimebandError(`there is no key slot "${slotId}"; there are: ${known === '' ? 'none' : known}. See "timeband key list".`, {
    code: 'USAGE',
  });
}

/** Every slot that the secret opens, by id. @throws TimebandError IO_ERROR */
export async function slotsOpenedBy(repository: Repository, secret: SlotSecret): Promise<string[]> {
  const { layout, configDigest } = repository;
  const opened: string[] = [];
  for (const { id, slot, problem } of await listSlots(layout.keys, configDigest)) {
    if (slot?.kind !== secret.kind || problem !== undefined) continue;
    const masterKey = await trySlot(slot, secret, configDigest);
    if (masterKey === undefined) continue;
    wipeKeys(masterKey);
    opened.push(id);
  }
  return opened;
}
