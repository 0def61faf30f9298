/** Key slots on disk: making one, and opening the master key with a passphrase. */
import { randomBytes, scrypt } from 'node:crypto';
import path from 'node:path';
import { messageOf, TimebandError, withPath } from '../bands/errors.ts';
import { equalBytes, toHex } from '../bands/format/bytes.ts';
import {
  type KeySlot,
  keySlotCodec,
  SCRYPT_SALT_BYTES,
  type ScryptParameters,
  SLOT_ID_BYTES,
  scryptMemoryBytes,
  unwrapMasterKey,
  wrapMasterKey,
} from '../bands/format/key-slot.ts';
import { wipeKeys } from '../bands/format/keys.ts';
import { KEY_BYTES } from '../bands/format/primitives.ts';
import { RECORD_NONCE_BYTES } from '../bands/format/record.ts';
import { listDirectory, readRegularFile, replaceFile } from '../bands/store/files.ts';

const MAX_SLOT_BYTES = 65_536;
/** Each slot that is tried costs memory and half a second: a repository with thousands would be an attack. */
const MAX_SLOTS = 64;
const SLOT_NAME = /^[0-9a-f]{16}\.json$/;

/** scrypt on the thread pool (RFC 7914). The passphrase is taken in Unicode NFC, so that every keyboard gives the same bytes. */
function deriveSlotKey(passphrase: string, salt: Uint8Array, parameters: ScryptParameters): Promise<Uint8Array> {
  const { logN, r, p } = parameters;
  const options = { N: 2 ** logN, r, p, maxmem: scryptMemoryBytes(parameters) + 1024 * 1024 * (p + 1) };
  return new Promise((resolve, reject) => {
    scrypt(passphrase.normalize('NFC'), salt, KEY_BYTES, options, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

/** Adds a slot that opens `masterKey` with `passphrase`. */
export async function addPassphraseSlot(
  keysDirectory: string,
  passphrase: string,
  secret: { readonly masterKey: Uint8Array; readonly configDigest: Uint8Array; readonly scrypt: ScryptParameters },
): Promise<KeySlot> {
  const id = randomBytes(SLOT_ID_BYTES);
  const salt = randomBytes(SCRYPT_SALT_BYTES);
  const nonce = randomBytes(RECORD_NONCE_BYTES);
  const slotKey = await deriveSlotKey(passphrase, salt, secret.scrypt);
  const wrapped = wrapMasterKey(slotKey, { configDigest: secret.configDigest, slotId: id, nonce }, secret.masterKey);
  wipeKeys(slotKey);
  const slot: KeySlot = { id, kind: 'passphrase', createdMs: Date.now(), scrypt: secret.scrypt, salt, nonce, wrapped };
  await replaceFile(path.join(keysDirectory, `${toHex(id)}.json`), keySlotCodec.encode(slot));
  return slot;
}

async function readSlot(file: string): Promise<KeySlot> {
  try {
    const slot = keySlotCodec.decode(await readRegularFile(file, { maxBytes: MAX_SLOT_BYTES, what: 'key slot' }));
    if (`${toHex(slot.id)}.json` === path.basename(file)) return slot;
    throw new TimebandError('key slot: the file is named for another slot', { code: 'RECORD_CORRUPT' });
  } catch (error) {
    throw withPath(error, file);
  }
}

/**
 * Opens the master key with the first slot that the passphrase fits; a damaged slot does not hide the others.
 * @throws TimebandError WRONG_KEY, REPOSITORY_CORRUPT (all slots are damaged), IO_ERROR
 */
export async function openMasterKey(keysDirectory: string, passphrase: string, configDigest: Uint8Array): Promise<Uint8Array> {
  const names = (await listDirectory(keysDirectory))
    .filter((name) => SLOT_NAME.test(name))
    .sort()
    .slice(0, MAX_SLOTS);
  const damaged: string[] = [];
  let unread: TimebandError | undefined;
  let tried = 0;
  for (const name of names) {
    try {
      const slot = await readSlot(path.join(keysDirectory, name));
      tried++;
      const masterKey = await trySlot(slot, passphrase, configDigest);
      if (masterKey !== undefined) return masterKey;
    } catch (error) {
      if (error instanceof TimebandError && !error.code.startsWith('RECORD_')) unread ??= error; // the disk's fault, which may pass
      damaged.push(messageOf(error));
    }
  }
  throw unread ?? noSlotError(keysDirectory, tried, damaged);
}

async function trySlot(slot: KeySlot, passphrase: string, configDigest: Uint8Array): Promise<Uint8Array | undefined> {
  const slotKey = await deriveSlotKey(passphrase, slot.salt, slot.scrypt);
  const masterKey = unwrapMasterKey(slotKey, { configDigest, slotId: slot.id, nonce: slot.nonce }, slot.wrapped);
  wipeKeys(slotKey);
  return masterKey !== undefined && !equalBytes(masterKey, new Uint8Array(KEY_BYTES)) ? masterKey : undefined;
}

function noSlotError(keysDirectory: string, tried: number, damaged: readonly string[]): TimebandError {
  const tail = damaged.length === 0 ? '' : ` Damaged: ${damaged.join('; ')}.`;
  if (tried > 0)
    return new TimebandError(`the passphrase does not open this repository (${tried} key slot(s) tried).${tail}`, {
      code: 'WRONG_KEY',
      path: keysDirectory,
    });
  return new TimebandError(
    `no key slot in ${keysDirectory} can be read.${tail} Without one the repository cannot be opened; put back the keys folder from a copy.`,
    { code: 'REPOSITORY_CORRUPT', path: keysDirectory },
  );
}
