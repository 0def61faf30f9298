/** Picks the driver for what a location is. */
import { stat } from 'node:fs/promises';
import { errnoOf, ioError, messageOf, TimebandError } from '../../bands/errors.ts';
import { bundleDriver } from './bundle/bundle-source.ts';
import { deviceDriver, imageDriver } from './image-source.ts';
import { lvmThinDriver } from './lvm/lvm-thin-source.ts';
import { nbdDriver } from './nbd/nbd-source.ts';
import { qcow2Driver } from './qcow2/qcow2-source.ts';
import { reflinkDriver } from './reflink/reflink-source.ts';
import { SOURCE_KINDS, type SourceContext, type SourceDriver, type SourceKind, type SourceView } from './source.ts';
import { notFound } from './source-file.ts';
import { trackedDriver } from './tracked/tracked-source.ts';
import { zfsDriver } from './zfs/zfs-source.ts';

/** The drivers, best first: the first that applies is taken. */
const DRIVERS: readonly SourceDriver[] = [
  nbdDriver,
  trackedDriver,
  qcow2Driver,
  zfsDriver,
  bundleDriver,
  reflinkDriver,
  lvmThinDriver,
  deviceDriver,
  imageDriver,
];

export interface SourceChoice {
  readonly driver: SourceDriver;
  /** Whether the user named the kind. */
  readonly isForced: boolean;
  readonly reason: string;
  /** Those that were looked at before, and why they do not apply. */
  readonly others: readonly { readonly kind: SourceKind; readonly reason: string }[];
}

/** @throws TimebandError USAGE */
export function checkSourceKind(text: string): SourceKind {
  const kind = SOURCE_KINDS.find((one) => one === text);
  if (kind !== undefined) return kind;
  throw new TimebandError(`"${text}" is no kind of source; there are ${SOURCE_KINDS.join(', ')}.`, { code: 'USAGE' });
}

/**
 * Chooses the driver for `location`, or checks the one that is forced. Changes nothing.
 * @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, TOOL_MISSING, PERMISSION_DENIED
 */
export async function chooseSource(location: string, forced?: SourceKind): Promise<SourceChoice> {
  if (!isAddress(location)) await requireLocation(location);
  const others: { kind: SourceKind; reason: string }[] = [];
  for (const driver of DRIVERS) {
    if (forced !== undefined && driver.kind !== forced) continue;
    const { applies, reason } = await driver.probe(location);
    if (applies) return { driver, isForced: forced !== undefined, reason, others };
    others.push({ kind: driver.kind, reason });
  }
  const why = others.map(({ kind, reason }) => `${kind}: ${reason}`).join('; ');
  throw new TimebandError(`${location} cannot be read${forced === undefined ? '' : ` as ${forced}`} (${why}).`, {
    code: 'SOURCE_INVALID',
    path: location,
  });
}

/**
 * Opens `location` with the driver that was chosen for it; an image whose clone the file system refuses (XFS that was made
 * without reflinks) is read as it is, with a warning.
 */
export async function openSource(location: string, choice: SourceChoice, context: SourceContext): Promise<OpenedSource> {
  try {
    return { view: await choice.driver.open(location, context), warning: undefined };
  } catch (error) {
    const isRefusedClone = choice.driver === reflinkDriver && error instanceof TimebandError && error.code === 'UNSUPPORTED';
    if (choice.isForced || !isRefusedClone) throw error; // what another driver cannot read is no raw image
    return { view: await imageDriver.open(location, context), warning: `${messageOf(error)}: it is read as it is, without a snapshot.` };
  }
}

export interface OpenedSource {
  readonly view: SourceView;
  /** Why it is not read in the best way. */
  readonly warning: string | undefined;
}

/** Whether a location is no path but a URI or `KIND:…`; such are remembered as the driver writes them. */
export function isAddress(location: string): boolean {
  return /^(qcow2|nbd|nbd\+unix|zfs):/.test(location);
}

async function requireLocation(location: string): Promise<void> {
  try {
    await stat(location);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') throw notFound(location, error);
    throw ioError(error, 'look at the source', location);
  }
}
