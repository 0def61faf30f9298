/** Key slots on disk: listing, making and trying them. FORMAT.md, "Key slot". */
import { randomBytes, scrypt } from 'node:crypto';
import path from 'node:path';
import { TimebandError, withPath } from '../../bands/errors.ts';
import { equalBytes, toHex } from '../../bands/format/bytes.ts';
import {
  type KeySlot,
  keySlotCodec,
  SCRYPT_SALT_BYTES,
  type ScryptParameters,
  SLOT_ID_BYTES,
  scryptMemoryBytes,
  unwrapMasterKey,
  wrapMasterKey,
} from '../../bands/format/key-slot.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import { KEY_BYTES } from '../../bands/format/primitives.ts';
import { RECORD_NONCE_BYTES } from '../../bands/format/record.ts';
import { listDirectory, readRegularFile, replaceFile } from '../../bands/store/files.ts';
import type { SlotSecret } from './slot-secret.ts';

const MAX_SLOT_BYTES = 65_536;
/** Each slot that is tried costs memory and half a second: a repository with thousands would be an attack. */
export const MAX_SLOTS = 64;
export const SLOT_NAME: RegExp = /^[0-9a-f]{16}\.json$/;

/** A file in keys/ that is named like a slot. */
export interface FoundSlot {
  /** 16 hex digits, as in the file's name. */
  readonly id: string;
  readonly file: string;
  /** Undefined if the file cannot be read. */
  readonly slot: KeySlot | undefined;
  /** Why it opens nothing here: it is damaged, or of another repository. */
  readonly problem: TimebandError | undefined;
}

/** The slots by name, 64 at most. @param configDigest SHA-256 of repository.json @throws TimebandError RECORD_CORRUPT (keys/ is no folder), IO_ERROR */
export async function listSlots(keysDirectory: string, configDigest: Uint8Array): Promise<FoundSlot[]> {
  const names = (await listDirectory(keysDirectory)).filter((name) => SLOT_NAME.test(name)).sort();
  return await Promise.all(names.slice(0, MAX_SLOTS).map((name) => findSlot(path.join(keysDirectory, name), configDigest)));
}

async function findSlot(file: string, configDigest: Uint8Array): Promise<FoundSlot> {
  const id = path.basename(file, '.json');
  try {
    const slot = keySlotCodec.decode(await readRegularFile(file, { maxBytes: MAX_SLOT_BYTES, what: 'key slot' }));
    if (toHex(slot.id) !== id) throw new TimebandError('key slot: the file is named for another slot', { code: 'RECORD_CORRUPT', path: file });
    return { id, file, slot, problem: slot.version === 2 && !equalBytes(slot.configDigest, configDigest) ? foreign(file) : undefined };
  } catch (error) {
    const known = withPath(error, file);
    if (known instanceof TimebandError) return { id, file, slot: undefined, problem: known };
    throw error;
  }
}

function foreign(file: string): TimebandError {
  return new TimebandError(`${file}: the key slot was made for another repository, or repository.json was changed since`, {
    code: 'WRONG_KEY',
    path: file,
  });
}

export interface NewSlot {
  readonly masterKey: Uint8Array;
  readonly configDigest: Uint8Array;
  readonly scrypt: ScryptParameters;
  /** 8 bytes; random unless the slot takes the place of another. */
  readonly id?: Uint8Array;
}

/** A slot that opens the master key with `secret`; tried before it is given out. */
export async function makeSlot(secret: SlotSecret, { masterKey, configDigest, scrypt, id = randomBytes(SLOT_ID_BYTES) }: NewSlot): Promise<KeySlot> {
  const salt = randomBytes(SCRYPT_SALT_BYTES);
  const nonce = randomBytes(RECORD_NONCE_BYTES);
  const binding = { version: 2, kind: secret.kind, configDigest, slotId: id, nonce } as const;
  const slotKey = await deriveSlotKey(secret, salt, scrypt);
  const wrapped = wrapMasterKey(slotKey, binding, masterKey);
  const unwrapped = unwrapMasterKey(slotKey, binding, wrapped);
  const isWhole = unwrapped !== undefined && equalBytes(unwrapped, masterKey);
  wipeKeys(slotKey, ...(unwrapped === undefined ? [] : [unwrapped]));
  if (!isWhole) throw new Error('a key slot that was just made does not open'); // a slot that opens nothing could take the place of one that does
  return { version: 2, id, kind: secret.kind, createdMs: Date.now(), scrypt, salt, nonce, wrapped, configDigest };
}

/** Puts a slot into the folder, durable when it returns; one of the same id is replaced at once. */
export async function writeSlot(keysDirectory: string, slot: KeySlot): Promise<void> {
  await replaceFile(path.join(keysDirectory, `${toHex(slot.id)}.json`), keySlotCodec.encode(slot));
}

/** The master key, which the caller wipes; undefined if the slot is not opened by this secret. @throws TimebandError IO_ERROR (memory) */
export async function trySlot(slot: KeySlot, secret: SlotSecret, configDigest: Uint8Array): Promise<Uint8Array | undefined> {
  const slotKey = await deriveSlotKey(secret, slot.salt, slot.scrypt);
  const { version, kind, id: slotId, nonce } = slot;
  const masterKey = unwrapMasterKey(slotKey, { version, kind, configDigest, slotId, nonce }, slot.wrapped);
  wipeKeys(slotKey);
  return masterKey !== undefined && !equalBytes(masterKey, new Uint8Array(KEY_BYTES)) ? masterKey : undefined;
}

/** scrypt on the thread pool (RFC 7914). */
function deriveSlotKey({ bytes }: SlotSecret, salt: Uint8Array, parameters: ScryptParameters): Promise<Uint8Array> {
  const { logN, r, p } = parameters;
  const memoryBytes = scryptMemoryBytes(parameters);
  const options = { N: 2 ** logN, r, p, maxmem: memoryBytes + 1024 * 1024 * (p + 1) };
  return new Promise((resolve, reject) => {
    scrypt(bytes, salt, KEY_BYTES, options, (error, key) => (error === null ? resolve(key) : reject(scryptError(error, memoryBytes))));
  });
}

function scryptError(cause: Error, memoryBytes: number): TimebandError {
  return new TimebandError(`scrypt failed (${cause.message}): the key slot needs ${memoryBytes / 2 ** 20} MiB of free memory to open.`, {
    code: 'IO_ERROR',
    cause,
  });
}
