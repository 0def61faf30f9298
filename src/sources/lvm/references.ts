/**
 * The thin snapshots that are ours. What one is, stands in its LVM tags, which it has from the moment it exists:
 *
 *     timeband                            ours
 *     timeband:owner:REPOSITORY:VOLUME    for which volume of which repository
 *     timeband:by:BASE64URL               which process made it (a ProcessIdentity in JSON)
 *     timeband:session:COMMIT-ID          the session that holds its data: without this, it is a leftover
 *
 * Only a thin volume with our name, our tag and the owner's tag is ever removed.
 */
import { createHash, randomBytes } from 'node:crypto';
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { currentProcess, type ProcessIdentity, stateOf } from '../../host.ts';
import type { SessionToken, SourceOwner } from '../source.ts';
import { encodeDeviceName, fullName, MAX_DEVICE_NAME_LENGTH, type VolumeName } from './device-name.ts';
import { type LogicalVolume, LVS_ARGUMENTS, parseLvsReport } from './lvs-report.ts';
import { runTool } from './tools.ts';

const TAG = 'timeband';
const NAME = /^timeband\.[0-9a-f]{8}\.[0-9a-f]{12}$/;

function ownerTag({ repositoryId, volumeId }: SourceOwner): string {
  return `${TAG}:owner:${repositoryId}:${volumeId}`;
}

function sessionTag({ commitId }: SessionToken): string {
  return `${TAG}:session:${commitId}`;
}

function makerTag(maker: ProcessIdentity): string {
  return `${TAG}:by:${Buffer.from(JSON.stringify(maker)).toString('base64url')}`;
}

function makerOf({ tags }: LogicalVolume): ProcessIdentity | undefined {
  const text = tags.find((tag) => tag.startsWith(`${TAG}:by:`))?.slice(`${TAG}:by:`.length);
  if (text === undefined) return undefined;
  try {
    const maker: Partial<ProcessIdentity> = JSON.parse(Buffer.from(text, 'base64url').toString());
    const { host, bootId, pidNamespace, pid, startTicks } = maker;
    const texts = [host, bootId, pidNamespace, startTicks];
    return typeof pid === 'number' && texts.every((value) => typeof value === 'string') ? (maker as ProcessIdentity) : undefined;
  } catch {
    return undefined; // not as we wrote it
  }
}

/** A name for a new snapshot: recognisable, and not there yet. @throws TimebandError SOURCE_INVALID if it does not fit */
export function newSnapshotName(origin: VolumeName, owner: SourceOwner | undefined): VolumeName {
  const mark = createHash('sha256')
    .update(owner === undefined ? '' : ownerTag(owner))
    .digest('hex');
  const name = { group: origin.group, volume: `${TAG}.${mark.slice(0, 8)}.${randomBytes(6).toString('hex')}` };
  if (encodeDeviceName(name).length <= MAX_DEVICE_NAME_LENGTH) return name;
  throw new TimebandError(
    `the name of the volume group ${origin.group} is so long that no snapshot of ours can be made in it (device-mapper allows ${MAX_DEVICE_NAME_LENGTH} characters). Rename the group, or use --source device.`,
    { code: 'SOURCE_INVALID' },
  );
}

/** The tags of a snapshot that this process makes. */
export function newSnapshotTags(owner: SourceOwner | undefined): string[] {
  return [TAG, ...(owner === undefined ? [] : [ownerTag(owner)]), makerTag(currentProcess())];
}

/** All logical volumes of a group. */
export async function listVolumes(group: string): Promise<LogicalVolume[]> {
  return parseLvsReport(await runTool('lvm', [...LVS_ARGUMENTS, '--', group]));
}

function isOurs(volume: LogicalVolume): boolean {
  return volume.segmentType === 'thin' && NAME.test(volume.name) && volume.tags.includes(TAG);
}

/** Those of `volumes` that are kept, or left over, for `owner`. */
export function referencesOf(volumes: readonly LogicalVolume[], owner: SourceOwner): LogicalVolume[] {
  return volumes.filter((volume) => isOurs(volume) && volume.tags.includes(ownerTag(owner)));
}

/** Those of `owner` that are bound to a session. */
export function boundReferences(volumes: readonly LogicalVolume[], owner: SourceOwner | undefined): LogicalVolume[] {
  return owner === undefined ? [] : referencesOf(volumes, owner).filter(isBound);
}

function isBound({ tags }: LogicalVolume): boolean {
  return tags.some((tag) => tag.startsWith(`${TAG}:session:`));
}

export function isBoundTo(volume: LogicalVolume, token: SessionToken): boolean {
  return volume.tags.includes(sessionTag(token));
}

/** What killed processes left: snapshots of this owner, or of dry runs without one, that are bound to no session. */
export function leftovers(volumes: readonly LogicalVolume[], owner: SourceOwner | undefined): LogicalVolume[] {
  return volumes.filter((volume) => {
    if (!isOurs(volume) || isBound(volume)) return false;
    const maker = makerOf(volume);
    const state = maker === undefined ? 'unknown' : stateOf(maker);
    const isOwners = owner !== undefined && volume.tags.includes(ownerTag(owner));
    const isNobodys = !volume.tags.some((tag) => tag.startsWith(`${TAG}:owner:`));
    return (isOwners && state !== 'running') || (isNobodys && state === 'gone'); // a dry run takes no lock, so it may run now
  });
}

/** Ties a snapshot to a session. LVM writes its metadata past the caches, so this is durable. */
export async function bindSnapshot(name: VolumeName, token: SessionToken): Promise<void> {
  await runTool('lvm', ['lvchange', '--yes', '--quiet', '--addtag', sessionTag(token), '--', fullName(name)]);
}

export async function removeSnapshot(name: VolumeName): Promise<void> {
  await runTool('lvm', ['lvremove', '--yes', '--quiet', '--', fullName(name)]);
}

/** Removes snapshots of ours. @returns a warning for each that is still there */
export async function removeReferences(references: readonly LogicalVolume[]): Promise<string[]> {
  const warnings: string[] = [];
  for (const { group, name } of references) {
    try {
      await removeSnapshot({ group, volume: name });
    } catch (error) {
      warnings.push(
        `the snapshot ${group}/${name} of an earlier sync is no longer needed and could not be removed (lvremove ${group}/${name}): ${messageOf(error)}`,
      );
    }
  }
  return warnings;
}
