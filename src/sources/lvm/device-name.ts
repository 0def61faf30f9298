/**
 * Device-mapper names of logical volumes: `GROUP-VOLUME`, in which dashes of either are doubled (lvm2's dm_build_dm_name).
 */

/** dm names are at most 127 bytes long, and LVM's names are ASCII. */
export const MAX_DEVICE_NAME_LENGTH = 127;

/** A logical volume as LVM's commands name it. */
export interface VolumeName {
  readonly group: string;
  readonly volume: string;
}

export function encodeDeviceName({ group, volume }: VolumeName): string {
  return `${group.replaceAll('-', '--')}-${volume.replaceAll('-', '--')}`;
}

/** Undefined if the name is none of a logical volume. */
export function decodeDeviceName(name: string): VolumeName | undefined {
  const pairs = /^((?:[^-]|--)+)-((?:[^-]|--)+)$/.exec(name);
  if (pairs === null) return undefined;
  return { group: (pairs[1] ?? '').replaceAll('--', '-'), volume: (pairs[2] ?? '').replaceAll('--', '-') };
}

/** `GROUP/VOLUME`. */
export function fullName({ group, volume }: VolumeName): string {
  return `${group}/${volume}`;
}

/** What a path in /dev names, whether or not it is there: /dev/GROUP/VOLUME or /dev/mapper/GROUP-VOLUME. */
export function volumeNameOfPath(path: string): VolumeName | undefined {
  const parts = /^\/dev\/([^/]+)\/([^/]+)$/.exec(path);
  if (parts === null) return undefined;
  const [, group = '', volume = ''] = parts;
  return group === 'mapper' ? decodeDeviceName(volume) : { group, volume };
}
