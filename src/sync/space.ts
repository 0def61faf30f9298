/**
 * Whether a session fits on the repository's disk, looked at before its first band is written. A sync that lacks the least is
 * refused at once. Where only the likely does not fit, the user is warned, and the sync goes on: it may well fit.
 */
import { statfs } from 'node:fs/promises';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { estimateSpace, type NewBands, type SpaceEstimate, type SpaceInput, type SpaceNeed, sessionNeed } from './space-estimate.ts';

/** What a session takes, and what there is. Inodes are files and folders. */
export interface SpaceReport {
  readonly leastBytes: number;
  readonly leastInodes: number;
  /** As far as the source can tell what changed; measured in a dry run. */
  readonly likelyBytes: number;
  readonly likelyInodes: number;
  readonly freeBytes: number;
  /** Null: as many as there is room for (btrfs). */
  readonly freeInodes: number | null;
}

/** Which volume is backed up, and the repository's folder. */
export interface SpacePlace {
  readonly volume: string;
  readonly directory: string;
  /** What an interrupted sync left for this one: it takes no more room. */
  readonly kept?: { readonly bytes: number; readonly inodes: number } | undefined;
}

const MAKE_ROOM =
  'Make room: "timeband prune" deletes old sessions (with --min-free 20G the oldest ones until so much is free); or remove other files from that disk, or use a larger one.';

export interface SpaceLook {
  readonly report: SpaceReport;
  /** Why it may not fit; undefined: it will. */
  readonly warning: string | undefined;
}

/** The room for one session. */
export class SessionRoom {
  readonly #input: SpaceInput;
  readonly #place: SpacePlace;
  readonly #estimate: SpaceEstimate;

  constructor(input: SpaceInput, place: SpacePlace) {
    this.#input = input;
    this.#place = place;
    this.#estimate = estimateSpace(input);
  }

  /** Before the first band. @throws TimebandError NO_SPACE if the session certainly does not fit, IO_ERROR */
  async require(): Promise<SpaceLook> {
    const { report, problem, warning } = await look(this.#estimate, this.#place);
    if (problem !== undefined) throw new TimebandError(problem, { code: 'NO_SPACE', path: this.#place.directory });
    return { report, warning };
  }

  /** After a dry run nothing has to be guessed any more. @param stored undefined: nothing changed @throws TimebandError IO_ERROR */
  async measure(stored: NewBands | undefined): Promise<SpaceLook> {
    const { least } = this.#estimate;
    const { report, problem, warning } = await look({ least, likely: stored === undefined ? least : sessionNeed(this.#input, stored) }, this.#place);
    return { report, warning: problem ?? warning };
  }

  /** The error of a sync, as explainFullDisk gives it. */
  async explain(error: unknown): Promise<unknown> {
    return await explainFullDisk(error, { ...this.#place, likely: this.#estimate.likely });
  }
}

async function look({ least, likely }: SpaceEstimate, at: SpacePlace): Promise<SpaceLook & { readonly problem: string | undefined }> {
  const room = await readRoom(at.directory);
  const { freeBytes, freeInodes } = room;
  const { kept = { bytes: 0, inodes: 0 } } = at;
  const isEnough = (need: SpaceNeed, free: number): boolean =>
    fits({ bytes: need.bytes - kept.bytes, inodes: need.inodes - kept.inodes }, { freeBytes: free, freeInodes });
  const report: SpaceReport = {
    leastBytes: least.bytes,
    leastInodes: least.inodes,
    likelyBytes: likely.bytes,
    likelyInodes: likely.inodes,
    freeBytes,
    freeInodes: freeInodes ?? null,
  };
  const tell = (what: string, takes: string, need: SpaceNeed): string =>
    `a session of "${at.volume}" ${what} on the disk of ${at.directory}: it ${takes} ${describeNeed(need)}; free: ${describeRoom(room)}. ${MAKE_ROOM}`;
  const isBeyond = !isEnough(least, room.freeBytesForRoot);
  return {
    report,
    problem: isBeyond ? tell('does not fit', 'takes at least', least) : undefined,
    warning: isEnough(likely, freeBytes) ? undefined : tell('may not fit', 'may take', likely),
  };
}

/** What a sync says that ran into a full disk: what of it was missing, and what to do. Other errors pass unchanged. */
export async function explainFullDisk(error: unknown, at: SpacePlace & { readonly likely?: SpaceNeed | undefined }): Promise<unknown> {
  // of the repository's disk, not the source's; and not one that was explained before
  if (!(error instanceof TimebandError) || error.code !== 'NO_SPACE' || error.path?.startsWith(`${at.directory}/`) !== true) return error;
  const room = await readRoom(at.directory).catch(() => undefined);
  const needed = at.likely === undefined ? '' : ` It may take ${describeNeed(at.likely)}.`;
  const free = room === undefined ? '' : ` Free now: ${describeRoom(room)}.`;
  return new TimebandError(
    `"${at.volume}" was not backed up: ${error.message.replace(/\.$/, '')}. No session was made, and every earlier one is as it was.${needed}${free} ${MAKE_ROOM}`,
    { code: 'NO_SPACE', cause: error, path: at.directory },
  );
}

interface Room {
  readonly freeBytes: number;
  /** Undefined: as many as there is room for. */
  readonly freeInodes: number | undefined;
}

async function readRoom(directory: string): Promise<Room & { readonly freeBytesForRoot: number }> {
  try {
    const { bavail, bfree, bsize, files, ffree } = await statfs(directory);
    return { freeBytes: bavail * bsize, freeBytesForRoot: bfree * bsize, freeInodes: files === 0 ? undefined : ffree };
  } catch (error) {
    throw ioError(error, 'ask for the free space of', directory);
  }
}

function fits({ bytes, inodes }: SpaceNeed, { freeBytes, freeInodes = Number.POSITIVE_INFINITY }: Room): boolean {
  return bytes <= freeBytes && inodes <= freeInodes;
}

function describeNeed({ bytes, inodes }: SpaceNeed): string {
  return `${mebibytes(bytes)} and ${inodes} new file(s)`;
}

function describeRoom({ freeBytes, freeInodes }: Room): string {
  return `${mebibytes(freeBytes)}${freeInodes === undefined ? '' : ` and ${freeInodes} file(s)`}`;
}

/** Always in the same unit, so that need and room can be compared. */
function mebibytes(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(1)} MiB`;
}
