/** Which files of this machine fill the image: a sample of real ones, by the hash of their paths, so always the same. */
import { createHash } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../../bands/errors.ts';

/** Read in this order until there is enough; they hold programs and their data, nobody's own files. */
const ROOTS = ['/usr', '/opt', '/lib', '/var/lib'] as const;
const BLOCK_BYTES = 4096;
/** One file must not be a large part of the image. */
const MAX_SHARE = 1 / 16;
/** The choice ends this close to the target. */
const SLACK_BYTES = 4_194_304;
const BATCH = 256;

export interface FileSelection {
  /** Absolute paths, sorted. */
  readonly files: readonly string[];
  /** Their sizes in whole blocks. */
  readonly bytes: number;
}

interface Candidate {
  readonly file: string;
  readonly bytes: number;
  readonly order: string;
}

/** Regular files of about `targetBytes`; fewer if the machine has no more. */
export async function selectFiles(targetBytes: number, excluded: string): Promise<FileSelection> {
  const chosen: Candidate[] = [];
  let bytes = 0;
  for (const root of ROOTS) {
    const candidates = (await measureFiles(await listFiles(root, excluded))).sort((a, b) => (a.order < b.order ? -1 : 1));
    for (const candidate of candidates) {
      if (candidate.bytes > targetBytes * MAX_SHARE || bytes + candidate.bytes > targetBytes) continue;
      chosen.push(candidate);
      bytes += candidate.bytes;
    }
    if (bytes > targetBytes - SLACK_BYTES) break;
  }
  return { files: chosen.map(({ file }) => file).sort(), bytes };
}

/** All regular files below `root`, links not followed; what this user may not list is left out. */
async function listFiles(root: string, excluded: string): Promise<string[]> {
  const files: string[] = [];
  const folders = [root];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    if (folder === excluded) continue;
    for (const entry of await listFolder(folder)) {
      const file = path.join(folder, entry.name);
      if (entry.isDirectory()) folders.push(file);
      else if (entry.isFile() && !file.includes('\ufffd')) files.push(file);
    }
  }
  return files;
}

async function listFolder(folder: string): Promise<readonly { readonly name: string; isDirectory(): boolean; isFile(): boolean }[]> {
  try {
    if ((await lstat(folder)).isSymbolicLink()) return [];
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'EACCES') return [];
    throw error;
  }
}

async function measureFiles(files: readonly string[]): Promise<Candidate[]> {
  const candidates: Candidate[] = [];
  for (let at = 0; at < files.length; at += BATCH) {
    const sizes = await Promise.all(files.slice(at, at + BATCH).map(async (file) => (await lstat(file).catch(() => undefined))?.size));
    for (const [i, size] of sizes.entries()) {
      const file = files[at + i];
      if (size === undefined || file === undefined) continue;
      const order = createHash('sha256').update(file).digest('hex');
      candidates.push({ file, bytes: Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES, order });
    }
  }
  return candidates;
}
