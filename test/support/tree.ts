/** Real trees of files, and a listing of all that makes a tree what it is. */
import { createHash } from 'node:crypto';
import { cpSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

/** The folder that the project's dependencies are installed in. */
export function installedPackages(): string {
  return path.join(path.dirname(createRequire(import.meta.url).resolve('commander')), '..');
}

/** Copies packages that this project uses: many small text files and a few binaries. */
export function copyRealTree(
  to: string,
  names: readonly string[] = ['classic-level', 'zstd-napi', 'commander', 'fast-check', 'ava', '@types'],
): void {
  for (const name of names) {
    cpSync(path.join(installedPackages(), name), path.join(to, name), { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  }
}

function describe(file: string): string {
  const stat = lstatSync(file);
  const content = stat.isSymbolicLink() ? readlinkSync(file) : stat.isFile() ? createHash('sha256').update(readFileSync(file)).digest('hex') : '';
  const size = stat.isDirectory() ? '' : stat.size;
  return [stat.mode.toString(8), stat.uid, stat.gid, stat.nlink, size, stat.mtimeMs, content].join(' ');
}

/** One line for each file, folder and link below `root`: mode, owner, links, size, time, content. */
export function listTree(root: string): string {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
  return names.map((name) => `${name}: ${describe(path.join(root, name))}`).join('\n');
}

/** The first line in which two listings differ; undefined if they are the same. */
export function listingDifference(actual: string, expected: string): string | undefined {
  if (actual === expected) return undefined;
  const [a, b] = [actual.split('\n'), expected.split('\n')];
  const at = b.findIndex((line, i) => line !== a[i]);
  return `got "${a[at === -1 ? b.length : at]}", expected "${b[at]}"`;
}
