/**
 * What a sparse bundle is on disk: a folder with Info.plist (Info.bckup is its spare copy), `token`, and `bands/` with a
 * file for each band that was ever written, named by its number in lower-case hex without padding. A band without a file
 * is zeros, and so is what lies behind the end of a shorter file.
 */
import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { errnoOf, ioError, messageOf, TimebandError, withPath } from '../../../bands/errors.ts';
import { bandCountOf, checkVolumeSize, SECTOR_BYTES } from '../../../bands/format/geometry.ts';
import { type BandStamp, byIndex } from './band-record.ts';
import { encodePlist, type PlistDict, parsePlist } from './plist.ts';

export const PLIST_FILES = ['Info.plist', 'Info.bckup'] as const;
const MAX_PLIST_BYTES = 1_048_576;
const BUNDLE_TYPE = 'com.apple.diskimage.sparsebundle';
const BACKING_STORE_VERSION = 1;
const MIN_BAND_BYTES = 1_048_576;
const MAX_BAND_BYTES = 8_589_934_592;
/** So many files are looked at before others get their turn. */
const STATS_AT_ONCE = 1024;

/** The text of the Info.plist of a plain bundle. @throws TimebandError SOURCE_INVALID for sizes that no bundle can have */
export function encodeBundlePlist({ sizeBytes, bandBytes }: Pick<BundleInfo, 'sizeBytes' | 'bandBytes'>): string {
  const text = encodePlist({
    CFBundleInfoDictionaryVersion: '6.0',
    'band-size': bandBytes,
    'bundle-backingstore-version': BACKING_STORE_VERSION,
    'diskimage-bundle-type': BUNDLE_TYPE,
    size: sizeBytes,
  });
  describe(parsePlist(text));
  return text;
}

export interface BundleInfo {
  readonly sizeBytes: number;
  readonly bandBytes: number;
  /** SHA-256 of the property list that was used. */
  readonly plistDigest: Uint8Array;
  readonly warnings: readonly string[];
}

/** Whether a folder is a sparse bundle, or was meant to be one. */
export async function isBundle(folder: string): Promise<boolean> {
  for (const name of PLIST_FILES) {
    const found = await stat(path.join(folder, name)).catch(() => undefined); // what is wrong with it is told when it is read
    if (found !== undefined) return true;
  }
  return false;
}

/** Reads Info.plist, or its spare copy where that is missing or broken. @throws TimebandError SOURCE_INVALID, PERMISSION_DENIED, IO_ERROR */
export async function readBundleInfo(bundle: string): Promise<BundleInfo> {
  const [main, spare] = PLIST_FILES.map((name) => path.join(bundle, name)) as [string, string];
  try {
    return { ...(await readInfo(main)), warnings: [] };
  } catch (error) {
    if (!(error instanceof TimebandError) || error.code !== 'SOURCE_INVALID') throw error;
    const info = await readInfo(spare).catch(() => undefined); // the first problem is the one to tell
    if (info === undefined) throw error;
    return { ...info, warnings: [`${messageOf(error)}. Its spare copy ${spare} is used; put it in the place of Info.plist.`] };
  }
}

async function readInfo(file: string): Promise<Omit<BundleInfo, 'warnings'>> {
  const bytes = await readPlistFile(file);
  try {
    if (bytes.subarray(0, 6).toString('latin1') === 'bplist')
      throw invalid(`a property list in Apple's binary form. Convert it: plutil -convert xml1 "${file}"`);
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return { ...describe(parsePlist(text)), plistDigest: createHash('sha256').update(bytes).digest() };
  } catch (error) {
    throw withPath(error instanceof TypeError ? invalid('not UTF-8') : error, file);
  }
}

async function readPlistFile(file: string): Promise<Buffer> {
  try {
    const { size } = await stat(file);
    if (size > MAX_PLIST_BYTES) throw new TimebandError(`${file}: ${size} bytes; no bundle's is that large`, { code: 'SOURCE_INVALID', path: file });
    return await readFile(file);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(error, 'read', file);
    throw new TimebandError(`${file} is missing, so how large the bundle is cannot be known`, { code: 'SOURCE_INVALID', cause: error, path: file });
  }
}

function invalid(message: string): TimebandError {
  return new TimebandError(message, { code: 'SOURCE_INVALID' });
}

function describe(plist: PlistDict): { sizeBytes: number; bandBytes: number } {
  const type = plist['diskimage-bundle-type'];
  if (type !== BUNDLE_TYPE) throw invalid(`"diskimage-bundle-type" is ${JSON.stringify(type)}, not that of a sparse bundle (${BUNDLE_TYPE})`);
  const version = plist['bundle-backingstore-version'];
  if (version !== BACKING_STORE_VERSION)
    throw invalid(`"bundle-backingstore-version" is ${JSON.stringify(version)}; only ${BACKING_STORE_VERSION} is known`);
  const bandBytes = plist['band-size'];
  const sizeBytes = plist['size'];
  const isBandSize = typeof bandBytes === 'number' && bandBytes >= MIN_BAND_BYTES && bandBytes <= MAX_BAND_BYTES && bandBytes % SECTOR_BYTES === 0;
  if (!isBandSize) throw invalid(`"band-size" is ${JSON.stringify(bandBytes)}, not a multiple of ${SECTOR_BYTES} from 1 MiB to 8 GiB`);
  if (typeof sizeBytes !== 'number') throw invalid('"size" is missing');
  checkVolumeSize(sizeBytes, '"size"');
  return { sizeBytes, bandBytes };
}

/** The band files at one time, by their numbers. */
export interface BandScan {
  /** Of the file system and of the folder `bands`. */
  readonly deviceId: bigint;
  readonly folderId: bigint;
  readonly bands: readonly BandStamp[];
  /** Names in the folder that are no bands'. */
  readonly strangers: readonly string[];
}

export function bandsFolder(bundle: string): string {
  return path.join(bundle, 'bands');
}

export function bandFile(bundle: string, index: number): string {
  return path.join(bundle, 'bands', index.toString(16));
}

/** Looks at every band file. @throws TimebandError SOURCE_INVALID where the files do not fit the size in Info.plist */
export async function scanBands(bundle: string, { sizeBytes, bandBytes }: Pick<BundleInfo, 'sizeBytes' | 'bandBytes'>): Promise<BandScan> {
  const folder = bandsFolder(bundle);
  const bands: BandStamp[] = [];
  const strangers: string[] = [];
  const bandCount = bandCountOf(sizeBytes, bandBytes);
  try {
    const { dev, ino } = await stat(folder, { bigint: true });
    for (const [i, name] of (await readdir(folder)).entries()) {
      if (i % STATS_AT_ONCE === STATS_AT_ONCE - 1) await nextTurn();
      if (!/^[0-9a-f]{1,13}$/i.test(name)) {
        if (!name.startsWith('.')) strangers.push(name); // .DS_Store and the like are everywhere
        continue;
      }
      const stamp = stampOf(path.join(folder, name), name);
      if (stamp === undefined) continue; // deleted since the folder was listed
      checkBand(stamp, { file: path.join(folder, name), bandCount, bandBytes });
      bands.push(stamp);
    }
    return { deviceId: dev, folderId: ino, bands: bands.sort(byIndex), strangers };
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') throw ioError(error, 'look at the bands in', folder);
    throw new TimebandError(`${folder} is missing: this is no whole sparse bundle. Copy it again with all that is in it.`, {
      code: 'SOURCE_INVALID',
      cause: error,
      path: folder,
    });
  }
}

function stampOf(file: string, name: string): BandStamp | undefined {
  const index = Number.parseInt(name, 16);
  const found = lstatSync(file, { bigint: true, throwIfNoEntry: false }); // 30,000 in a quarter of a second; asynchronously it takes four times as long
  if (found === undefined) return undefined;
  if (index.toString(16) !== name || !found.isFile()) {
    throw new TimebandError(
      `${file} is ${found.isFile() ? 'not named as a band is (lower-case hex without padding)' : 'not a regular file'}. Move it out of the bundle.`,
      {
        code: 'SOURCE_INVALID',
        path: file,
      },
    );
  }
  return { index, size: Number(found.size), mtimeNs: found.mtimeNs, ctimeNs: found.ctimeNs, ino: found.ino };
}

function checkBand({ index, size }: BandStamp, at: { readonly file: string; readonly bandCount: number; readonly bandBytes: number }): void {
  if (size > at.bandBytes)
    throw new TimebandError(`${at.file} has ${size} bytes, more than the band size of ${at.bandBytes} in Info.plist. Repair the bundle first.`, {
      code: 'SOURCE_INVALID',
      path: at.file,
    });
  if (index < at.bandCount || size === 0) return;
  throw new TimebandError(
    `${at.file} lies behind the end of the volume (${at.bandCount} bands by Info.plist). If the volume was made smaller on purpose, move that file out of the bundle; else repair Info.plist.`,
    { code: 'SOURCE_INVALID', path: at.file },
  );
}
