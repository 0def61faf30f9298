/** What a run of the benchmark is asked to do. */

export const STEP_NAMES = [
  'raw',
  'first',
  'touched',
  'incremental',
  'restore',
  'mount',
  'nbd',
  'reads',
  'files',
  'verify',
  'hardlinks',
  'reflink',
  'delete',
  'sessions',
  'writes',
] as const;
export type StepName = (typeof STEP_NAMES)[number];

export const PEER_NAMES = ['borg', 'restic'] as const;
export type PeerName = (typeof PEER_NAMES)[number];

export interface Settings {
  /** Size of the image, in MiB. */
  readonly sizeMiB: number;
  readonly peers: readonly PeerName[];
  readonly steps: readonly StepName[];
  /** Bands of the image of the hardlink step; 0 leaves the step out. */
  readonly hardlinkBands: number;
  /** Sessions of the step that lists them; 0 leaves the step out. */
  readonly sessions: number;
  /** Where everything is put; undefined: a new folder for temporary files, removed at the end. */
  readonly workDirectory: string | undefined;
  /** Where the results are written as JSON, too. */
  readonly jsonFile: string | undefined;
  /** Leave repositories and images for a look. */
  readonly isKept: boolean;
}

/** The names in `text` ("a,b"), in the order of `known`; undefined if one of them is not known. */
export function parseNames<Name extends string>(text: string, known: readonly Name[]): Name[] | undefined {
  const asked = text.split(',').map((name) => name.trim());
  const wanted = asked.filter((name) => name !== '');
  if (wanted.some((name) => known.every((one) => one !== name))) return undefined;
  return known.filter((name) => wanted.includes(name));
}
