/** Opening the master key with what the user offers, and saying what is in the way if it does not open. */
import { TimebandError } from '../../bands/errors.ts';
import { SLOT_KINDS, type SlotKind } from '../../bands/format/key-slot.ts';
import type { SlotSecret } from './slot-secret.ts';
import { type FoundSlot, listSlots, trySlot } from './slots.ts';

export const SECRET_NAMES: Readonly<Record<SlotKind, string>> = {
  passphrase: 'passphrase',
  'key-file': 'key file',
  'recovery-phrase': 'recovery phrase',
};

export interface OpenedSlot {
  /** 32 bytes, which the caller wipes. */
  readonly masterKey: Uint8Array;
  /** 16 hex digits. */
  readonly slotId: string;
}

/**
 * Opens the master key with the first slot that the secret fits; a damaged slot does not hide the others. Each slot of the
 * secret's kind costs one run of scrypt, whether it fits or not.
 * @throws TimebandError WRONG_KEY, REPOSITORY_CORRUPT (all slots are damaged), IO_ERROR
 */
export async function openMasterKey(keysDirectory: string, secret: SlotSecret, configDigest: Uint8Array): Promise<OpenedSlot> {
  const found = await listSlots(keysDirectory, configDigest);
  const failures: TimebandError[] = [];
  for (const { id, file, slot, problem } of found) {
    if (slot?.kind !== secret.kind || problem !== undefined) continue;
    try {
      const masterKey = await trySlot(slot, secret, configDigest);
      if (masterKey !== undefined) return { masterKey, slotId: id };
    } catch (error) {
      if (!(error instanceof TimebandError)) throw error;
      failures.push(new TimebandError(`${file}: ${error.message}`, { code: error.code, cause: error, path: file }));
    }
  }
  throw notOpened(keysDirectory, { found, failures, kind: secret.kind });
}

interface Tried {
  readonly found: readonly FoundSlot[];
  readonly failures: readonly TimebandError[];
  readonly kind: SlotKind;
}

/** What stands in keys/ is public, so it may be told; which slot came nearest is not known to anybody. */
function notOpened(keysDirectory: string, { found, failures, kind }: Tried): TimebandError {
  const problems = [...found.flatMap(({ problem }) => problem ?? []), ...failures];
  const unread = problems.find(({ code }) => code === 'IO_ERROR' || code === 'PERMISSION_DENIED');
  if (unread !== undefined) return unread; // the system's fault, which may pass: whether the secret is right is not known
  const usable = found.flatMap(({ slot, problem }) => (problem === undefined && slot !== undefined ? [slot] : []));
  const tail = problems.length === 0 ? '' : ` Not usable: ${problems.map(({ message }) => message).join('; ')}.`;
  const name = SECRET_NAMES[kind];
  const count = usable.filter((slot) => slot.kind === kind).length;
  if (count > failures.length) {
    const error = `the ${name} does not open this repository (${count - failures.length} key slot(s) tried).${tail}`;
    return new TimebandError(error, { code: 'WRONG_KEY', path: keysDirectory });
  }
  if (usable.length > 0) {
    const error = `no key slot of this repository takes a ${name}; it has slots for: ${namesOf(usable)}.${tail}`;
    return new TimebandError(error, { code: failures[0]?.code ?? 'WRONG_KEY', path: keysDirectory });
  }
  const isForeign = found.length > 0 && problems.every(({ code }) => code === 'WRONG_KEY');
  if (isForeign) {
    const error = `no key slot in ${keysDirectory} belongs to this repository.${tail} Put back repository.json, or the keys folder, from a copy.`;
    return new TimebandError(error, { code: 'WRONG_KEY', path: keysDirectory });
  }
  return new TimebandError(
    `no key slot in ${keysDirectory} can be read.${tail} Without one the repository cannot be opened; put back the keys folder from a copy.`,
    { code: 'REPOSITORY_CORRUPT', path: keysDirectory },
  );
}

function namesOf(slots: readonly { readonly kind: SlotKind }[]): string {
  return SLOT_KINDS.filter((kind) => slots.some((slot) => slot.kind === kind))
    .map((kind) => SECRET_NAMES[kind])
    .join(', ');
}
