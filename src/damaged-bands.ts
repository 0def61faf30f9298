/**
 * The damaged list of a volume: bands that `check --repair` found damaged and could not mend. It tells later commands where to
 * look first, and what not to build on; it proves nothing, so whoever reads a band goes by its seal all the same.
 */
import { randomBytes } from 'node:crypto';
import { isShortage, TimebandError, withPath } from '../bands/errors.ts';
import { equalBytes, toHex } from '../bands/format/bytes.ts';
import { type DamagedBand, damagedListCodec, sortDamaged } from '../bands/format/damaged-list.ts';
import type { ByteRange } from '../bands/format/geometry.ts';
import { openRecord, RECORD_NONCE_BYTES, sealRecord } from '../bands/format/record.ts';
import { readRegularFile, removeFile, replaceFile, syncDirectory } from '../bands/store/files.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';
import { type BandPool, shareBandKeys } from '../bands/workers/band-pool.ts';
import { bandRange, DamageLog } from './damage-log.ts';
import type { Repository } from './repository.ts';
import type { Volume } from './volume.ts';

const MAX_LIST_BYTES = 268_435_456;
/** A lock that is held for moments. */
const LIST_LOCK_ATTEMPTS = 100;

/** The list of a volume; without a file there is nothing on it. @throws TimebandError RECORD_CORRUPT, IO_ERROR */
export async function readDamagedList({ layout, context }: Volume): Promise<readonly DamagedBand[]> {
  try {
    const sealed = await readRegularFile(layout.damaged, { maxBytes: MAX_LIST_BYTES, what: 'damaged list' });
    return damagedListCodec.decode(openRecord(context.keys.recordsKey, { kind: 'damaged', volumeId: context.volumeId }, sealed));
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'RECORD_MISSING') return [];
    throw withPath(error, layout.damaged);
  }
}

/** The list for a command that goes on without it: one that cannot be read is a warning, and empty. */
export async function knownDamage(volume: Volume, warn: (message: string) => void): Promise<readonly DamagedBand[]> {
  try {
    return await readDamagedList(volume);
  } catch (error) {
    if (!(error instanceof TimebandError)) throw error;
    warn(`which bands of "${volume.name}" are known to be damaged cannot be read: ${error.message}. Run "timeband check --repair ${volume.name}".`);
    return [];
  }
}

/**
 * Replaces a volume's list by what `change` makes of it.
 * @param options `isReset`: begin with an empty list if the one that is there cannot be read
 * @throws TimebandError LOCKED, RECORD_CORRUPT, NO_SPACE
 */
export async function changeDamagedList(
  repository: Repository,
  volume: Volume,
  change: (bands: readonly DamagedBand[]) => readonly DamagedBand[],
  options: { readonly isReset?: boolean } = {},
): Promise<void> {
  await using _lock = await repository.lock({
    scope: `damaged-${volume.id}`,
    what: `the damaged list of volume "${volume.name}"`,
    command: 'damaged list',
    attempts: LIST_LOCK_ATTEMPTS,
  });
  const before = options.isReset === true ? await readDamagedList(volume).catch(() => []) : await readDamagedList(volume);
  const after = sortDamaged(change(before));
  if (after.length === 0) {
    await removeFile(volume.layout.damaged);
    await syncDirectory(volume.layout.root);
    return;
  }
  const { keys, volumeId } = volume.context;
  const content = { nonce: randomBytes(RECORD_NONCE_BYTES), plain: damagedListCodec.encode(after) };
  await replaceFile(volume.layout.damaged, sealRecord(keys.recordsKey, { kind: 'damaged', volumeId }, content));
}

/** The bands of a session that are on the list. Index pages that cannot be read are passed over. */
export async function listedBands(
  session: SessionDirectory,
  list: readonly DamagedBand[],
): Promise<{ readonly bandIndex: number; readonly range: ByteRange }[]> {
  const found: { bandIndex: number; range: ByteRange }[] = [];
  for (const { bandIndex, salt } of list) {
    const band = await session.readBandEntry(bandIndex).catch(unlessShort);
    if (band !== undefined && equalBytes(band.salt, salt)) found.push({ bandIndex, range: bandRange(session, bandIndex) });
  }
  return found;
}

/** What is damaged shows where it is read for its own sake. */
function unlessShort(error: unknown): undefined {
  if (isShortage(error)) throw error;
}

/**
 * Looks at the bands of a session that are on the list, before anything is written on the strength of them: what is damaged there
 * shows at once, and not at the end.
 * @throws TimebandError BAND_CORRUPT, which lists the ranges
 */
export async function requireListedWhole(
  session: SessionDirectory,
  list: readonly DamagedBand[],
  {
    pool,
    target,
    isConcerned = () => true,
  }: { readonly pool: BandPool; readonly target: string; readonly isConcerned?: (bandIndex: number) => boolean },
): Promise<void> {
  const log = new DamageLog({ session, target, isKeepGoing: false });
  const keys = shareBandKeys(session.context);
  for (const { bandIndex, range } of await listedBands(session, list)) {
    const band = isConcerned(bandIndex) ? await session.readBandEntry(bandIndex) : undefined;
    if (band === undefined) continue;
    const file = session.bandPaths(bandIndex, 1)[0] ?? '';
    await pool.run('checkBand', { keys, file, band, withData: true }).catch((error: unknown) => log.take(range, error));
  }
  log.throwIfStopped('Nothing was written');
}

/** A name for one sealing: salts are random. */
export function saltName(salt: Uint8Array): string {
  return toHex(salt);
}
