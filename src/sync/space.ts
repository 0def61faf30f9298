/**
 * Whether a session fits on the repository's disk, looked at before its first band is written. A sync that lacks the least is
 * refused at once. Where only the likely does not fit, the user is warned, and the sync goes on: it may well fit.
 */
import { statfs } from 'node:fs/promises';
import { ioError, TimebandError } from '../../bands/errors.ts';
import type { SpaceEstimate, SpaceNeed } from './space-estimate.ts';

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

export interface SpaceLook {
  readonly report: SpaceReport;
  /** NO_SPACE: the least does not fit. */
  readonly problem: TimebandError | undefined;
  /** The likely does not fit. */
  readonly warning: string | undefined;
}

/** Which volume is backed up, and the repository's folder. */
export interface SpacePlace {
  readonly volume: string;
  readonly directory: string;
}

const MAKE_ROOM =
  'Make room: "timeband prune" deletes old sessions (with --min-free 20G the oldest ones until so much is free); or remove other files from that disk, or use a larger one.';

/** @throws TimebandError IO_ERROR */
export async function lookForRoom({ least, likely }: SpaceEstimate, at: SpacePlace): Promise<SpaceLook> {
  const room = await readRoom(at.directory);
  const { freeBytes, freeInodes } = room;
  const report: SpaceReport = {
    leastBytes: least.bytes,
    leastInodes: least.inodes,
    likelyBytes: likely.bytes,
    likelyInodes: likely.inodes,
    freeBytes,
    freeInodes: freeInodes ?? null,
  };
  const where = `on the disk of ${at.directory}`;
  if (!fits(least, { freeBytes: room.freeBytesForRoot, freeInodes })) {
    const message = `there is no room for a session of "${at.volume}" ${where}: it takes at least ${describeNeed(least)}; free: ${describeRoom(room)}. No session was made. ${MAKE_ROOM}`;
    return { report, problem: new TimebandError(message, { code: 'NO_SPACE', path: at.directory }), warning: undefined };
  }
  const warning = fits(likely, room)
    ? undefined
    : `a session of "${at.volume}" may not fit ${where}: it may take ${describeNeed(likely)}; free: ${describeRoom(room)}. ${MAKE_ROOM}`;
  return { report, problem: undefined, warning };
}

/** What a sync says that ran into a full disk: what of it was missing, and what to do. Other errors pass unchanged. */
export async function explainFullDisk(error: unknown, at: SpacePlace & { readonly likely?: SpaceNeed | undefined }): Promise<unknown> {
  // of the repository's disk, not the source's; and not one that was explained before
  if (!(error instanceof TimebandError) || error.code !== 'NO_SPACE' || error.path?.startsWith(`${at.directory}/`) !== true) return error;
  const room = await readRoom(at.directory).catch(() => undefined);
  const needed = at.likely === undefined ? '' : ` It may take ${describeNeed(at.likely)}.`;
  const free = room === undefined ? '' : ` Free now, without what this sync had stored: ${describeRoom(room)}.`;
  return new TimebandError(
    `"${at.volume}" was not backed up: ${error.message}. No session was made, and every earlier one is as it was.${needed}${free} ${MAKE_ROOM}`,
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
