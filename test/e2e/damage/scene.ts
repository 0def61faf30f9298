/** A copy of the template repository in which files are found, damaged and exchanged. */
import { copyFileSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import type { SessionDirectory } from '../../../bands/store/session-directory.ts';
import { Repository } from '../../../src/repository.ts';
import { openNamed } from '../../support/library.ts';
import { PASSPHRASE, sh, type Workspace, workspace } from '../../support/workspace.ts';
import type { Template, VolumeName } from './template.ts';

export type FileKind = 'volume record' | 'manifest' | 'labels' | 'bitmap' | 'index page' | 'band';

/** One file of one session. */
export interface Place {
  readonly volume: VolumeName;
  /** Number of the session, 0 the oldest. */
  readonly session: number;
  readonly kind: FileKind;
  /** Of a band or index page. */
  readonly number?: number;
}

export interface Scene extends Workspace {
  readonly template: Template;
  readonly repository: Repository;
  id(volume: VolumeName, session: number): string;
  open(volume: VolumeName, session: number): Promise<SessionDirectory>;
  file(place: Place): string;
}

export async function setScene(t: ExecutionContext, template: Template): Promise<Scene> {
  const ws = workspace(t);
  sh('cp', '-a', template.repo, ws.repo);
  const repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  t.teardown(() => repository.close());
  const opened = new Map<string, SessionDirectory>();
  const id = (volume: VolumeName, session: number): string => {
    const found = template.sessions[volume][session];
    if (found === undefined) throw new RangeError('session: the template has no such session');
    return found.id;
  };
  for (const volume of ['small', 'paged', 'other'] as const)
    for (const session of template.sessions[volume]) opened.set(`${volume}@${session.id}`, await openNamed(repository, volume, session.id));
  const directory = (volume: VolumeName, session: number): SessionDirectory => {
    const found = opened.get(`${volume}@${id(volume, session)}`);
    if (found === undefined) throw new RangeError('session: not opened');
    return found;
  };
  return {
    ...ws,
    template,
    repository,
    id,
    open: async (volume, session) => await openNamed(repository, volume, id(volume, session)),
    file({ volume, session, kind, number = 0 }) {
      const opened = directory(volume, session);
      if (kind === 'band') return opened.bandPaths(number, 1)[0] ?? '';
      if (kind === 'index page') return opened.pagePath(number);
      if (kind === 'volume record') return path.join(opened.directory, '..', '..', 'volume');
      return path.join(opened.directory, kind);
    },
  };
}

/** Numbers of the sessions whose file at this place is the very same inode. */
export function sharers(scene: Scene, place: Place): ReadonlySet<number> {
  const inode = (session: number): number | undefined => lstatSync(scene.file({ ...place, session }), { throwIfNoEntry: false })?.ino;
  const numbers = scene.template.sessions[place.volume].map((_, i) => i);
  return new Set(numbers.filter((i) => inode(i) === inode(place.session)));
}

export interface Damage {
  readonly name: string;
  /** Bit rot changes the file that sessions share; what is done to a name concerns that name alone. */
  readonly isShared: boolean;
  readonly apply: (file: string) => void;
}

/** Turns one bit of the byte at `share` of the file's length, in place. */
function flipAt(file: string, share: number): void {
  const bytes = readFileSync(file);
  const at = Math.min(bytes.length - 1, Math.floor(bytes.length * share));
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  writeFileSync(file, bytes, { flag: 'r+' });
}

function replaceByLink(file: string): void {
  const elsewhere = path.join(file.slice(0, file.indexOf('/repo/')), 'elsewhere');
  copyFileSync(file, elsewhere);
  rmSync(file);
  symlinkSync(elsewhere, file);
}

function replaceBy(make: (file: string) => void): (file: string) => void {
  return (file) => {
    rmSync(file);
    make(file);
  };
}

export const DAMAGES: readonly Damage[] = [
  { name: 'its first byte turned', isShared: true, apply: (file) => flipAt(file, 0) },
  { name: 'a byte in the middle turned', isShared: true, apply: (file) => flipAt(file, 0.5) },
  { name: 'its last byte turned', isShared: true, apply: (file) => flipAt(file, 1) },
  { name: 'half of it cut off', isShared: true, apply: (file) => truncateSync(file, Math.floor(lstatSync(file).size / 2)) },
  { name: 'one byte more', isShared: true, apply: (file) => writeFileSync(file, '\0', { flag: 'a' }) },
  { name: 'nothing in it', isShared: true, apply: (file) => truncateSync(file, 0) },
  { name: 'nothing in its place', isShared: false, apply: (file) => rmSync(file) },
  { name: 'a symbolic link to the right bytes in its place', isShared: false, apply: replaceByLink },
  { name: 'a folder in its place', isShared: false, apply: replaceBy((file) => mkdirSync(file)) },
  { name: 'a pipe in its place', isShared: false, apply: replaceBy((file) => void sh('mkfifo', file)) },
];

/** Puts a copy of one file in the place of another. */
export function copyOver(from: string, to: string): void {
  rmSync(to);
  copyFileSync(from, to);
}

export function swap(a: string, b: string): void {
  renameSync(a, `${a}.x`);
  renameSync(b, a);
  renameSync(`${a}.x`, b);
}
