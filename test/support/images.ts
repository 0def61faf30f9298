/** Real disk images with real file systems. */
import { closeSync, cpSync, fsyncSync, mkdirSync, openSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import { sh } from './workspace.ts';

export type FileSystem = 'ext4' | 'xfs' | 'btrfs';

/** Makes a sparse image of `sizeBytes` with an empty file system. */
export function makeImage(image: string, sizeBytes: number, type: FileSystem = 'ext4'): void {
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  if (type === 'ext4') sh('mkfs.ext4', '-q', '-F', image);
  else sh(`mkfs.${type}`, '-q', '-f', image);
}

/** Mounts an image read-write at `folder` for the time of `use`; afterwards all of it is in the image. */
export async function withMounted<T>(image: string, folder: string, use: () => T | Promise<T>): Promise<T> {
  mkdirSync(folder, { recursive: true });
  sh('mount', '-o', 'loop', image, folder);
  try {
    return await use();
  } finally {
    sh('umount', folder);
    const fd = openSync(image, 'r+');
    fsyncSync(fd);
    closeSync(fd);
  }
}

/** Copies a tree as it is. */
export function copyTree(from: string, to: string): void {
  cpSync(from, to, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
}

/** Whether two files have the same bytes, read in large steps. */
export function isSameFile(a: string, b: string): boolean {
  const [fdA, fdB] = [openSync(a, 'r'), openSync(b, 'r')];
  const [bufferA, bufferB] = [Buffer.alloc(4_194_304), Buffer.alloc(4_194_304)];
  try {
    for (;;) {
      const [readA, readB] = [readSync(fdA, bufferA), readSync(fdB, bufferB)];
      if (readA !== readB || bufferA.subarray(0, readA).compare(bufferB.subarray(0, readB)) !== 0) return false;
      if (readA === 0) return true;
    }
  } finally {
    closeSync(fdA);
    closeSync(fdB);
  }
}

/** What `diff -r` finds between two trees; empty if nothing. */
export function treeDifference(a: string, b: string): string {
  try {
    return sh('diff', '-r', '--no-dereference', a, b);
  } catch (error) {
    return typeof error === 'object' && error !== null && 'stdout' in error ? String(error.stdout) || String(error) : String(error);
  }
}
