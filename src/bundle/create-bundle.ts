/** Making an empty sparse bundle. */
import { randomBytes } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { utf8 } from '../../bands/format/bytes.ts';
import { createDirectory, statIfPresent, syncDirectory, writeNewFile } from '../../bands/store/files.ts';
import { bandsFolder, encodeBundlePlist, PLIST_FILES } from '../sources/bundle/bundle-files.ts';

export const BUNDLE_SUFFIX = '.sparsebundle';
export const DEFAULT_BUNDLE_BAND_BYTES = 8_388_608;

export interface BundleShape {
  readonly sizeBytes: number;
  readonly bandBytes: number;
}

/**
 * Makes an empty bundle, which appears whole or not at all.
 * @throws TimebandError USAGE, TARGET_EXISTS, SOURCE_INVALID (sizes that no bundle can have), NO_SPACE, PERMISSION_DENIED
 */
export async function createBundle(location: string, shape: BundleShape): Promise<string> {
  const bundle = path.resolve(location);
  if (!bundle.endsWith(BUNDLE_SUFFIX)) throw new TimebandError(`"${location}": the name of a bundle ends with ${BUNDLE_SUFFIX}.`, { code: 'USAGE' });
  const plist = utf8(encodeBundlePlist(shape));
  if ((await statIfPresent(bundle)) !== undefined) throw exists(bundle);
  const unfinished = `${bundle}.timeband-${randomBytes(4).toString('hex')}`;
  try {
    await createDirectory(unfinished);
    await createDirectory(bandsFolder(unfinished));
    for (const name of PLIST_FILES) await writeNewFile(path.join(unfinished, name), plist);
    await writeNewFile(path.join(unfinished, 'token'), new Uint8Array());
    await syncDirectory(unfinished);
    await rename(unfinished, bundle); // a folder that has appeared meanwhile is written over only if it is empty
    await syncDirectory(path.dirname(bundle));
    return bundle;
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    throw ioError(error, 'make the bundle', bundle);
  }
}

function exists(bundle: string): TimebandError {
  return new TimebandError(`${bundle} exists; nothing was changed. Name a new bundle.`, { code: 'TARGET_EXISTS', path: bundle });
}
