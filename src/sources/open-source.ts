/** Picks the driver for what a location is. */
import { TimebandError } from '../../bands/errors.ts';
import { bundleDriver } from './bundle/bundle-source.ts';
import { deviceDriver, imageDriver, typeOfLocation } from './image-source.ts';
import { SOURCE_KINDS, type SourceDriver, type SourceKind } from './source.ts';
import { zfsDriver } from './zfs/zfs-source.ts';

/** The drivers, best first: the first that applies is taken. */
const DRIVERS: readonly SourceDriver[] = [zfsDriver, deviceDriver, bundleDriver, imageDriver];

export interface SourceChoice {
  readonly driver: SourceDriver;
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
    if (applies) return { driver, reason, others };
    others.push({ kind: driver.kind, reason });
  }
  const why = others.map(({ kind, reason }) => `${kind}: ${reason}`).join('; ');
  throw new TimebandError(`${location} cannot be read${forced === undefined ? '' : ` as ${forced}`} (${why}).`, {
    code: 'SOURCE_INVALID',
    path: location,
  });
}

/** Whether a location is no path but a URI or `KIND:…`; such are remembered as the driver writes them. */
export function isAddress(location: string): boolean {
  return /^(qcow2|nbd|nbd\+unix|zfs):/.test(location);
}

async function requireLocation(location: string): Promise<void> {
  if ((await typeOfLocation(location)) !== 'missing') return;
  throw new TimebandError(`the source ${location} does not exist. Check the path, or say where it is now: NAME=PATH.`, {
    code: 'SOURCE_NOT_FOUND',
    path: location,
  });
}
