/** What a request may ask for, before anything is done for it. Pure. */
import { COMMAND, COMMAND_FLAG, MAX_PAYLOAD_BYTES, NBD_ERROR } from '../protocol.ts';
import type { Request } from '../transmission-codec.ts';

/** An answer that says no. */
export interface Refusal {
  readonly error: number;
  readonly message: string;
}

/** What the rules look at. */
export interface RequestScene {
  readonly sizeBytes: number;
  readonly isWritable: boolean;
  /** Whether a range can be made zeros. */
  readonly canZero: boolean;
  readonly isStructured: boolean;
  readonly hasAllocation: boolean;
}

const CHANGES: readonly number[] = [COMMAND.write, COMMAND.trim, COMMAND.writeZeroes];
const KNOWN: readonly number[] = [COMMAND.read, COMMAND.flush, COMMAND.cache, COMMAND.blockStatus, ...CHANGES];
/** The flags that each command may have; FUA is meaningless with most, and harmless. */
const FLAGS: ReadonlyMap<number, number> = new Map([
  [COMMAND.read, COMMAND_FLAG.fua | COMMAND_FLAG.df],
  [COMMAND.writeZeroes, COMMAND_FLAG.fua | COMMAND_FLAG.noHole],
  [COMMAND.blockStatus, COMMAND_FLAG.fua | COMMAND_FLAG.reqOne],
]);

/** Why a request is refused; undefined if it is not. */
export function refusalOf({ command, flags, offset, length }: Request, scene: RequestScene): Refusal | undefined {
  const invalid = (message: string): Refusal => ({ error: NBD_ERROR.EINVAL, message });
  if (!KNOWN.includes(command)) return invalid(`command ${command} is not known here`);
  if (CHANGES.includes(command) && !scene.isWritable) return { error: NBD_ERROR.EPERM, message: 'the export is read-only' };
  if ((command === COMMAND.trim || command === COMMAND.writeZeroes) && !scene.canZero) return invalid('ranges cannot be made zeros here');
  if ((flags & ~(FLAGS.get(command) ?? COMMAND_FLAG.fua)) !== 0) return invalid(`flags ${flags} do not belong to command ${command}`);
  if ((flags & COMMAND_FLAG.df) !== 0 && !scene.isStructured) return invalid('DF was not offered without structured replies');
  if (command === COMMAND.flush) return undefined;
  if (offset + length > scene.sizeBytes) {
    const error = command === COMMAND.write || command === COMMAND.writeZeroes ? NBD_ERROR.ENOSPC : NBD_ERROR.EINVAL;
    return { error, message: `${length} bytes at ${offset} are not all within ${scene.sizeBytes}` };
  }
  if (command === COMMAND.read && length > MAX_PAYLOAD_BYTES) return invalid(`${length} bytes in one request; ${MAX_PAYLOAD_BYTES} are the most`);
  if (command !== COMMAND.blockStatus) return undefined;
  if (!scene.hasAllocation) return invalid('no metadata context was selected');
  return length === 0 ? invalid('the status of no bytes') : undefined;
}
