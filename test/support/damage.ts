/** Damage to a repository's files, as disks do it: in place, so that every session that shares a file has it. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { flipBit } from './bytes.ts';

/** Turns one bit of a file; in its middle unless said where. */
export function flip(file: string, byte?: number): void {
  const bytes = readFileSync(file);
  writeFileSync(file, flipBit(bytes, (byte ?? bytes.length >>> 1) * 8));
}

/** Cuts a file to its half. */
export function cut(file: string): void {
  truncateSync(file, readFileSync(file).length >>> 1);
}

export function bandFile(session: SessionDirectory, bandIndex: number): string {
  return session.bandPaths(bandIndex, 1)[0] ?? '';
}
