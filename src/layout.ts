/** Where things lie in a repository. FORMAT.md, "Repository". */
import path from 'node:path';

export interface RepositoryLayout {
  readonly root: string;
  readonly config: string;
  readonly readme: string;
  readonly recoveryScript: string;
  readonly keys: string;
  readonly volumes: string;
  readonly trash: string;
  readonly locks: string;
}

export function repositoryLayout(root: string): RepositoryLayout {
  const at = (name: string): string => path.join(root, name);
  return {
    root,
    config: at('repository.json'),
    readme: at('README.txt'),
    recoveryScript: at('recover.py'),
    keys: at('keys'),
    volumes: at('volumes'),
    trash: at('trash'),
    locks: at('locks'),
  };
}

export interface VolumeLayout {
  readonly root: string;
  readonly record: string;
  /** The list of damaged bands; absent if there are none. */
  readonly damaged: string;
  readonly sessions: string;
  readonly incoming: string;
}

export function volumeLayout(root: string): VolumeLayout {
  const at = (name: string): string => path.join(root, name);
  return { root, record: at('volume'), damaged: at('damaged'), sessions: at('sessions'), incoming: at('incoming') };
}
