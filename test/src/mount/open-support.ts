/** Sessions with file systems in them, for `open`. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import type { BandPool } from '../../../bands/workers/band-pool.ts';
import { fill } from '../../support/bytes.ts';
import { type FileSystem, makeImage, withMounted } from '../../support/images.ts';
import type { Lab } from '../../support/library.ts';
import { sh } from '../../support/workspace.ts';
import { mountLab } from './mount-support.ts';

export const MIB = 1_048_576;
/** The least that each mkfs takes. */
export const SIZES: Readonly<Record<FileSystem, number>> = { ext4: 16 * MIB, xfs: 320 * MIB, btrfs: 128 * MIB };

/** Puts files under `folder`: small, large, in folders, and a link. The same label makes the same files. */
export function writeFiles(folder: string, label: string): void {
  mkdirSync(path.join(folder, 'deep', 'er'), { recursive: true });
  for (let i = 0; i < 40; i++) writeFileSync(path.join(folder, 'deep', `small ${i}`), `${label} ${i}\n`.repeat(i * 10));
  writeFileSync(path.join(folder, 'deep', 'er', 'large'), fill(label, 2 * MIB));
  execFileSync('ln', ['-sfn', 'deep/er/large', path.join(folder, 'link')]);
}

/** What differs between the files in `folder` and those that the label stands for; empty if nothing. */
export function filesDiffer(space: Lab, folder: string, label: string): string {
  const expected = space.folder(`expected ${label}`);
  writeFiles(expected, label);
  try {
    return sh('diff', '-r', '--no-dereference', '--exclude=lost+found', expected, folder);
  } catch (error) {
    return typeof error === 'object' && error !== null && 'stdout' in error ? String(error.stdout) || String(error) : String(error);
  }
}

/**
 * An image that was copied while it was mounted and written to, as from a running machine: its journal holds what is not
 * in place yet. What was there before the last mount is in it.
 */
export async function makeLiveImage(space: Lab, image: string, type: FileSystem, label: string): Promise<void> {
  makeImage(`${image}.live`, SIZES[type], type);
  await withMounted(`${image}.live`, space.at('rw'), () => writeFiles(space.at('rw'), label));
  await withMounted(`${image}.live`, space.at('rw'), () => {
    writeFileSync(space.at('rw', 'unfinished'), fill('unfinished', 100_000));
    sh('sync', space.at('rw', 'unfinished'));
    sh('sync', `${image}.live`);
    sh('cp', '--sparse=always', `${image}.live`, image);
  });
}

/** A repository with volume `v`, one session for each label, each with an ext4 file system that holds the label's files. */
export async function ext4Scene(
  t: ExecutionContext,
  pool: BandPool,
  labels: readonly string[],
): Promise<Lab & { readonly sessions: readonly string[] }> {
  const space = await mountLab(t, pool);
  makeImage(space.at('img'), SIZES.ext4, 'ext4');
  const sessions: string[] = [];
  for (const label of labels) {
    await withMounted(space.at('img'), space.at('rw'), () => writeFiles(space.at('rw'), label));
    const { session } = await space.sync('v', space.at('img'));
    if (session !== undefined) sessions.push(session);
  }
  return { ...space, sessions };
}

/** An image with a partition table: nothing in the first partition, ext4 with the label's files in the second. */
export async function makePartitioned(space: Lab, image: string, label: string, table: 'dos' | 'gpt'): Promise<void> {
  makeImage(`${image}.part`, SIZES.ext4, 'ext4');
  await withMounted(`${image}.part`, space.at('rw'), () => writeFiles(space.at('rw'), label));
  writeFileSync(image, '');
  truncateSync(image, SIZES.ext4 + 8 * MIB);
  execFileSync('sfdisk', ['--quiet', image], { input: `label: ${table}\nstart=2048,size=2048\nstart=8192,size=${SIZES.ext4 / 512}\n` });
  execFileSync('dd', [`of=${image}`, 'bs=1M', 'seek=4', 'conv=notrunc', 'status=none'], { input: readFileSync(`${image}.part`) });
}

/** A PATH with just these programs: all that `open` runs, each replaced by a script if `scripts` has one, or left out. */
export function pathWith(space: Lab, scripts: Readonly<Record<string, string | undefined>>): NodeJS.ProcessEnv {
  const bin = space.at('bin');
  mkdirSync(bin);
  for (const tool of ['partx', 'losetup', 'blkid', 'mount', 'umount', 'sync', 'sh', 'kill', 'fusermount']) {
    const real = ['/usr/bin', '/usr/sbin', '/bin', '/sbin'].map((folder) => path.join(folder, tool)).find((file) => existsSync(file));
    if (!(tool in scripts)) {
      if (real !== undefined) symlinkSync(real, path.join(bin, tool));
    } else if (scripts[tool] !== undefined) {
      writeFileSync(path.join(bin, tool), `#!/bin/sh\n${scripts[tool]}\n`, { mode: 0o755 });
    }
  }
  return { ...space.env, PATH: bin };
}
