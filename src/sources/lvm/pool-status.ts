/** What `dmsetup status` and `dmsetup table` tell of thin pools and thin volumes (Linux: device-mapper/thin-provisioning.rst). */
import { TimebandError } from '../../../bands/errors.ts';

export interface ThinPoolStatus {
  readonly mode: 'rw' | 'ro' | 'out_of_data_space' | 'failed';
  /** The metadata must be repaired before anything can be written again. */
  readonly needsCheck: boolean;
  /** How full the pool is; whole numbers, rounded down. */
  readonly dataPercent: number;
  readonly metadataPercent: number;
  /** The block of the metadata snapshot that somebody holds. */
  readonly heldRoot: number | undefined;
}

/**
 * Reads a line `START LENGTH thin-pool TRANSACTION USED/TOTAL USED/TOTAL HELD-ROOT MODE …`, or `… thin-pool Fail`.
 * @throws TimebandError TOOL_FAILED
 */
export function parseThinPoolStatus(text: string): ThinPoolStatus {
  const [, , target, first = '', metadata = '', data = '', held = '', mode = '', ...options] = text.trim().split(/\s+/);
  if (target === 'thin-pool' && (first === 'Fail' || first === 'Error'))
    return { mode: 'failed', needsCheck: true, dataPercent: 0, metadataPercent: 0, heldRoot: undefined };
  const [metadataPercent, dataPercent] = [percentOf(metadata), percentOf(data)];
  const isMode = mode === 'rw' || mode === 'ro' || mode === 'out_of_data_space';
  if (target !== 'thin-pool' || metadataPercent === undefined || dataPercent === undefined || !isMode || !/^(?:-|\d+)$/.test(held))
    throw new TimebandError(`the status of the thin pool is not understood: "${text.trim()}"`, { code: 'TOOL_FAILED' });
  return { mode, needsCheck: options.includes('needs_check'), dataPercent, metadataPercent, heldRoot: held === '-' ? undefined : Number(held) };
}

/** Of `USED/TOTAL`. */
function percentOf(usage: string): number | undefined {
  const [, used, total] = /^(\d+)\/([1-9]\d*)$/.exec(usage) ?? [];
  return used === undefined ? undefined : Math.floor((Number(used) * 100) / Number(total));
}

/**
 * Whether a thin volume's blocks that are not mapped show another device's (an external origin) instead of zeros, from its
 * line `START LENGTH thin POOL-DEVICE ID [ORIGIN-DEVICE]`.
 * @throws TimebandError TOOL_FAILED
 */
export function hasExternalOrigin(table: string): boolean {
  const [, , target, ...fields] = table.trim().split(/\s+/);
  if (target !== 'thin' || fields.length < 2)
    throw new TimebandError(`the table of the thin volume is not understood: "${table.trim()}"`, { code: 'TOOL_FAILED' });
  return fields.length > 2;
}
