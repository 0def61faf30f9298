/** Recognising LVM thin volumes: from sysfs, so without root and without asking LVM. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { errnoOf, ioError } from '../../../bands/errors.ts';
import { type DeviceNumbers, deviceNumbers } from '../block-device.ts';
import { decodeDeviceName, type VolumeName } from './device-name.ts';

/** dm UUIDs of logical volumes: the group's and the volume's UUID, 32 characters each; hidden layers have a suffix. */
const VOLUME_UUID = /^LVM-[A-Za-z0-9]{64}$/;
const POOL_UUID = /^LVM-[A-Za-z0-9]{64}-tpool$/;

export interface ThinVolume {
  readonly name: VolumeName;
  /** The dm device of the pool that maps its volumes' blocks, which takes messages. */
  readonly poolDevice: string;
}

/** The thin volume behind a path, or what keeps it from being one. @throws TimebandError PERMISSION_DENIED, IO_ERROR */
export async function findThinVolume(location: string): Promise<ThinVolume | string> {
  const device = await deviceOf(location);
  if (device === undefined) return 'it is not a block device';
  const directory = `/sys/dev/block/${device}`;
  const uuid = await readText(`${directory}/dm/uuid`);
  const name = decodeDeviceName((await readText(`${directory}/dm/name`)) ?? '');
  if (uuid === undefined || !VOLUME_UUID.test(uuid) || name === undefined) return 'it is not a logical volume of LVM';
  const poolDevice = await findPool(directory);
  return poolDevice === undefined ? 'it is a logical volume of LVM, but not a thin one' : { name, poolDevice };
}

async function deviceOf(location: string): Promise<DeviceNumbers | undefined> {
  try {
    const found = await stat(location, { bigint: true });
    return found.isBlockDevice() ? deviceNumbers(found.rdev) : undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw ioError(error, 'look at the source', location);
  }
}

async function findPool(directory: string): Promise<string | undefined> {
  for (const slave of await readdir(`${directory}/slaves`)) {
    const uuid = await readText(`${directory}/slaves/${slave}/dm/uuid`);
    if (uuid !== undefined && POOL_UUID.test(uuid)) return await readText(`${directory}/slaves/${slave}/dm/name`);
  }
  return undefined;
}

/** Undefined where there is no such file: the device is none of device-mapper's. */
async function readText(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw ioError(error, 'read', file);
  }
}
