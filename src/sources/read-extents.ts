/** Reads a file's extents: by the FIEMAP ioctl where koffi is installed, else from the text of `filefrag`. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { EXTENT_FLAGS, type Extent } from './extents.ts';
import { type Libc, loadLibc } from './libc.ts';

const run = promisify(execFile);
const FS_IOC_FIEMAP = 0xc020660b;
const FIEMAP_FLAG_SYNC = 1;
/** struct fiemap and struct fiemap_extent, linux/fiemap.h. */
const HEADER_BYTES = 32;
const EXTENT_BYTES = 56;
const EXTENTS_AT_ONCE = 4096;
const MAX_FILEFRAG_BYTES = 268_435_456;

/**
 * The extents of an open file, sorted; dirty data is written out first, so that every byte has its place.
 * @returns undefined if the file system does not tell (completely)
 */
export async function readExtents(file: { readonly fd: number; readonly path: string }): Promise<Extent[] | undefined> {
  const libc = loadLibc();
  try {
    return libc === undefined ? await filefragExtents(file.path) : fiemapExtents(libc, file.fd);
  } catch {
    return undefined; // not supported here, or filefrag is not installed
  }
}

function fiemapExtents(libc: Libc, fd: number): Extent[] {
  const buffer = new Uint8Array(HEADER_BYTES + EXTENTS_AT_ONCE * EXTENT_BYTES);
  const view = new DataView(buffer.buffer);
  const extents: Extent[] = [];
  for (let start = 0, isLast = false; !isLast; ) {
    buffer.fill(0, 0, HEADER_BYTES);
    view.setBigUint64(0, BigInt(start), true);
    view.setBigUint64(8, 0xffff_ffff_ffff_ffffn - BigInt(start), true);
    view.setUint32(16, FIEMAP_FLAG_SYNC, true);
    view.setUint32(24, EXTENTS_AT_ONCE, true);
    libc.ioctl(fd, FS_IOC_FIEMAP, buffer);
    const count = view.getUint32(20, true);
    if (count === 0) break;
    for (let i = 0; i < count; i++) extents.push(extentAt(view, HEADER_BYTES + i * EXTENT_BYTES));
    const last = extents.at(-1);
    isLast = last === undefined || (last.flags & EXTENT_FLAGS.last) !== 0;
    start = last === undefined ? 0 : last.logical + last.length;
  }
  return extents;
}

function extentAt(view: DataView, at: number): Extent {
  const u64 = (offset: number): number => Number(view.getBigUint64(at + offset, true));
  return { logical: u64(0), physical: u64(8), length: u64(16), flags: view.getUint32(at + 40, true) };
}

/** `filefrag -s -v`: -s writes dirty data first, without which unwritten extents with new data would look empty. */
async function filefragExtents(file: string): Promise<Extent[] | undefined> {
  const { stdout } = await run('filefrag', ['-s', '-v', '-b512', '--', file], {
    maxBuffer: MAX_FILEFRAG_BYTES,
    env: { ...process.env, LC_ALL: 'C' },
  });
  return parseFilefrag(stdout);
}

const FLAG_NAMES: Readonly<Record<string, number>> = {
  last: EXTENT_FLAGS.last,
  eof: 0,
  delalloc: EXTENT_FLAGS.delalloc,
  encoded: EXTENT_FLAGS.encoded,
  encrypted: EXTENT_FLAGS.encrypted,
  not_aligned: EXTENT_FLAGS.notAligned,
  inline: EXTENT_FLAGS.inline,
  tail_merged: EXTENT_FLAGS.tail,
  unwritten: EXTENT_FLAGS.unwritten,
  merged: EXTENT_FLAGS.merged,
  shared: EXTENT_FLAGS.shared,
};

function parseFlags(text: string): number {
  const names = text.split(',').map((name) => name.trim());
  return names.reduce((flags, name) => flags | (name === '' ? 0 : (FLAG_NAMES[name] ?? EXTENT_FLAGS.unknown)), 0);
}

/**
 * Parses the output of `filefrag -v`, whose header names its unit (no file system has smaller blocks than 512 bytes, and
 * larger units would round data away); undefined if it is not understood completely.
 */
export function parseFilefrag(text: string): Extent[] | undefined {
  const extents: Extent[] = [];
  const unitBytes = Number(/ blocks? of (\d+) bytes\)/.exec(text)?.[1] ?? 4096);
  const counted = /: (\d+) extents? found\s*$/.exec(text)?.[1];
  for (const line of text.split('\n')) {
    const match = /^\s*\d+:\s+(\d+)\.\.\s*(\d+):\s+(\d+)\.\.\s*\d+:\s+\d+:\s*(?:\d+:\s*)?(.*)$/.exec(line);
    if (match === null && /^\s*\d+:/.test(line)) return undefined; // an extent that is not understood
    if (match === null) continue;
    const [first = 0, last = 0, physical = 0] = match.slice(1, 4).map(Number);
    const place = { logical: first * unitBytes, physical: physical * unitBytes, length: (last + 1 - first) * unitBytes };
    extents.push({ ...place, flags: parseFlags(match[4] ?? '') });
  }
  return counted === undefined || (extents.length === 0) !== (Number(counted) === 0) ? undefined : extents;
}
