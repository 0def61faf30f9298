/**
 * LVM thin volumes. A sync takes a thin snapshot, reads it through its device, and learns what changed by comparing the
 * pool's mappings (thin_delta) of this snapshot and of the one that the sync before kept. Both pin their blocks, so a block
 * that is mapped to the same place holds the same data; a rewritten or discarded one is mapped elsewhere or nowhere.
 *
 * The kept snapshot is not active, is never activated at boot, and is told apart by its tags (lvm/references.ts).
 */
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, checkVolumeSize } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import { DataMap } from '../data-map.ts';
import { typeOfLocation } from '../image-source.ts';
import type { ChangeSet, SessionToken, SourceContext, SourceDriver, SourceOwner, SourceProbe, SourceView } from '../source.ts';
import { SourceFile } from '../source-file.ts';
import { encodeDeviceName, fullName, type VolumeName, volumeNameOfPath } from './device-name.ts';
import type { LogicalVolume } from './lvs-report.ts';
import { readPoolStatus, type ThinPool, withMetadataSnapshot } from './metadata-snapshot.ts';
import { hasExternalOrigin, type ThinPoolStatus } from './pool-status.ts';
import {
  bindSnapshot,
  boundReferences,
  isBoundTo,
  leftovers,
  listVolumes,
  newSnapshotName,
  newSnapshotTags,
  referencesOf,
  removeReferences,
  removeSnapshot,
} from './references.ts';
import { type ThinDelta, ThinDeltaParser } from './thin-delta.ts';
import { findThinVolume } from './thin-volume.ts';
import { isInstalled, missingTool, runLines, runTool } from './tools.ts';

/** Above this the user is warned: a pool that is full stops all its volumes. */
const FULL_PERCENT = 90;
const AS_DEVICE = 'Or read the volume as it is, without a snapshot: --source device.';

/** A thin snapshot that this process made. */
interface Snapshot {
  readonly name: VolumeName;
  readonly thinId: number;
  readonly sizeBytes: number;
}

interface ViewParts {
  readonly location: string;
  readonly pool: ThinPool;
  readonly metadataDevice: string;
  readonly snapshot: Snapshot;
  /** Those that earlier sessions of this owner are bound to: nobody else touches them while its volume is locked. */
  readonly references: readonly LogicalVolume[];
  readonly file: SourceFile;
  readonly context: SourceContext;
  readonly warnings: readonly string[];
}

class LvmThinView implements SourceView {
  readonly kind = 'lvm-thin';
  readonly location: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[];
  readonly #parts: ViewParts;
  /** The last comparison: its mappings of the new snapshot are the data map, too. */
  #delta: ThinDelta | undefined;
  #isBound = false;

  constructor(parts: ViewParts) {
    this.#parts = parts;
    this.location = parts.location;
    this.sizeBytes = parts.snapshot.sizeBytes;
    this.warnings = parts.warnings;
  }

  async changesSince(base: SessionToken | undefined): Promise<ChangeSet> {
    if (base === undefined || this.#parts.context.owner === undefined) return { isKnown: false, reason: undefined };
    try {
      const reference = this.#findReference(base);
      if (typeof reference === 'string') return { isKnown: false, reason: reference };
      this.#delta = await this.#compare(reference);
      return { isKnown: true, ranges: this.#delta.changed };
    } catch (error) {
      return { isKnown: false, reason: messageOf(error).replace(/\.$/, '') };
    }
  }

  /** The number of the snapshot that is bound to `base`, or why it is of no use. */
  #findReference(base: SessionToken): number | string {
    const { pool, snapshot, references } = this.#parts;
    const reference = references.find((one) => isBoundTo(one, base));
    if (reference === undefined) return `no LVM snapshot of the newest session is kept in the volume group ${snapshot.name.group}`;
    if (!reference.isReadOnly) return `the LVM snapshot ${reference.group}/${reference.name} was made writeable`;
    if (reference.poolUuid !== pool.uuid || reference.thinId === undefined)
      return `the LVM snapshot ${reference.group}/${reference.name} is in another thin pool than the volume`;
    return reference.thinId;
  }

  async #compare(oldId: number): Promise<ThinDelta> {
    const { pool, metadataDevice, snapshot, context } = this.#parts;
    if (!(await isInstalled('thin_delta'))) throw new TimebandError(missingTool('thin_delta'), { code: 'TOOL_MISSING' });
    const { thinId: newId, sizeBytes } = snapshot;
    return await withMetadataSnapshot(pool, context.stateDirectory, async () => {
      const parser = new ThinDeltaParser({ oldId, newId, sizeBytes });
      const args = ['-m', '--thin1', String(oldId), '--thin2', String(newId), metadataDevice];
      await runLines('thin_delta', args, (line) => parser.push(line));
      return parser.finish();
    });
  }

  async readDataMap(): Promise<DataMap | undefined> {
    const { snapshot } = this.#parts;
    try {
      if (hasExternalOrigin(await runTool('dmsetup', ['table', '--', encodeDeviceName(snapshot.name)]))) return undefined;
      this.#delta ??= await this.#compare(snapshot.thinId);
      return new DataMap(this.#delta.mapped, this.sizeBytes);
    } catch {
      return undefined; // without a map everything is read; why, was said where the changes were asked for
    }
  }

  withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return use(this.#parts.file.input(range, data));
  }

  verifyStable(): Promise<readonly string[]> {
    return Promise.resolve([]); // a read-only snapshot
  }

  async bind(token: SessionToken): Promise<void> {
    await bindSnapshot(this.#parts.snapshot.name, token);
    this.#isBound = true;
  }

  async committed(token: SessionToken): Promise<readonly string[]> {
    const { references, pool } = this.#parts;
    const unneeded = this.#isBound ? references : references.filter((one) => !isBoundTo(one, token));
    const warnings = await removeReferences(unneeded);
    return [...warnings, ...fullPoolWarnings(pool, await readPoolStatus(pool))];
  }

  /** Failures are left to the next sync, which removes what is bound to no session: this one is committed, or has failed already. */
  async close(): Promise<void> {
    const { file, snapshot } = this.#parts;
    await file.close();
    const letGo = this.#isBound ? deactivate(snapshot.name) : removeSnapshot(snapshot.name);
    await letGo.catch(() => undefined);
  }
}

async function deactivate(name: VolumeName): Promise<void> {
  await runTool('lvm', ['lvchange', '--yes', '--quiet', '--activate', 'n', '--', fullName(name)]);
}

function fullPoolWarnings(pool: ThinPool, { dataPercent, metadataPercent }: ThinPoolStatus): string[] {
  if (Math.max(dataPercent, metadataPercent) < FULL_PERCENT) return [];
  return [
    `the thin pool ${pool.name} is ${dataPercent} % full (its metadata ${metadataPercent} %), and the snapshot that is kept for the next sync takes room as the volume is written to. ` +
      `A full pool stops all of its volumes: extend it (lvextend), or remove the snapshot (lvremove; the next sync then reads everything).`,
  ];
}

async function probe(location: string): Promise<SourceProbe> {
  if ((await typeOfLocation(location)) !== 'device') return { applies: false, reason: 'it is not a block device' };
  const found = await findThinVolume(location);
  if (typeof found === 'string') return { applies: false, reason: found };
  const what = `the LVM thin volume ${fullName(found.name)}`;
  for (const tool of ['lvm', 'dmsetup'] as const)
    if (!(await isInstalled(tool))) return { applies: false, reason: `${what}; but ${missingTool(tool)}` };
  if (process.getuid?.() !== 0) return { applies: false, reason: `${what}; but only root can make a snapshot of it` };
  const how = (await isInstalled('thin_delta'))
    ? 'the pool tells what changed'
    : `what changed is found by reading it, since ${missingTool('thin_delta')}`;
  return { applies: true, reason: `${what}; a snapshot is read, ${how}` };
}

/** @throws TimebandError SOURCE_INVALID, PERMISSION_DENIED, TOOL_MISSING, TOOL_FAILED, NO_SPACE */
async function open(location: string, context: SourceContext): Promise<SourceView> {
  const found = await findThinVolume(location);
  if (typeof found === 'string')
    throw new TimebandError(`${location} cannot be read as an LVM thin volume: ${found}.`, { code: 'SOURCE_INVALID', path: location });
  if (process.getuid?.() !== 0)
    throw new TimebandError(`only root can make a snapshot of ${location}. Run as root. ${AS_DEVICE}`, { code: 'PERMISSION_DENIED', path: location });
  const volumes = await listVolumes(found.name.group);
  const { pool, metadataDevice } = findPool(volumes, found);
  await requireWritablePool(pool);
  const warnings = await removeReferences(leftovers(volumes, context.owner));
  const { snapshot, all } = await freeze(found.name, context.owner);
  const references = boundReferences(all, context.owner);
  try {
    const file = await SourceFile.open(`/dev/mapper/${encodeDeviceName(snapshot.name)}`);
    return new LvmThinView({ location: lastingLocation(location, found.name), pool, metadataDevice, snapshot, references, file, context, warnings });
  } catch (error) {
    await removeSnapshot(snapshot.name).catch(() => undefined); // the first error counts; the next sync removes it
    throw error;
  }
}

function findPool(
  volumes: readonly LogicalVolume[],
  { name, poolDevice }: { readonly name: VolumeName; readonly poolDevice: string },
): Pick<ViewParts, 'pool' | 'metadataDevice'> {
  const origin = volumes.find((volume) => volume.name === name.volume && volume.segmentType === 'thin');
  const pool = volumes.find(({ uuid }) => uuid === origin?.poolUuid);
  if (pool?.metadataVolume === undefined)
    throw new TimebandError(`lvs does not list the thin volume ${fullName(name)} and its pool. ${AS_DEVICE}`, { code: 'TOOL_FAILED' });
  const { group } = name;
  return {
    pool: { name: fullName({ group, volume: pool.name }), uuid: pool.uuid, device: poolDevice },
    metadataDevice: `/dev/mapper/${encodeDeviceName({ group, volume: pool.metadataVolume })}`,
  };
}

/** A pool that cannot be written to takes no snapshot; LVM's own message does not say what to do. */
async function requireWritablePool(pool: ThinPool): Promise<void> {
  const { mode, needsCheck } = await readPoolStatus(pool);
  if (mode === 'rw' && !needsCheck) return;
  if (mode === 'out_of_data_space') throw outOfSpace(pool.name, 'it is out of space');
  const state = mode === 'failed' ? 'has failed' : 'is read-only';
  throw new TimebandError(
    `the thin pool ${pool.name} ${state}, so no snapshot can be made. Look at "lvs -a" and the kernel's log; its metadata may need "lvconvert --repair". ${AS_DEVICE}`,
    { code: 'TOOL_FAILED' },
  );
}

function outOfSpace(what: string, said: string, cause?: unknown): TimebandError {
  return new TimebandError(
    `no snapshot can be made in the thin pool of ${what}: ${said}. Extend the pool (lvextend), or free room in it. ${AS_DEVICE}`,
    {
      code: 'NO_SPACE',
      cause,
    },
  );
}

/**
 * Makes a read-only, active thin snapshot, which is not activated at boot (its skip flag is set, and passed over here).
 * @returns it, and all logical volumes of its group
 */
async function freeze(origin: VolumeName, owner: SourceOwner | undefined): Promise<{ readonly snapshot: Snapshot; readonly all: LogicalVolume[] }> {
  const name = newSnapshotName(origin, owner);
  const tags = newSnapshotTags(owner).flatMap((tag) => ['--addtag', tag]);
  const flags = ['--yes', '--quiet', '--snapshot', '--permission', 'r', '--setactivationskip', 'y', '--ignoreactivationskip', '--activate', 'y'];
  try {
    await runTool('lvm', ['lvcreate', ...flags, ...tags, '--name', name.volume, '--', fullName(origin)]);
    const all = await listVolumes(name.group);
    const made = all.find((volume) => volume.name === name.volume);
    if (made?.thinId === undefined) throw new TimebandError('the new snapshot is not a thin one', { code: 'TOOL_FAILED' });
    checkVolumeSize(made.sizeBytes, fullName(name));
    return { snapshot: { name, thinId: made.thinId, sizeBytes: made.sizeBytes }, all };
  } catch (error) {
    await removeSnapshot(name).catch(() => undefined); // most often there is none
    throw freezeError(origin, error);
  }
}

function freezeError(origin: VolumeName, error: unknown): unknown {
  if (!(error instanceof TimebandError) || error.code !== 'TOOL_FAILED') return error;
  const said = messageOf(error);
  if (/reached threshold|out of (?:data|metadata) space|insufficient free space/i.test(said)) return outOfSpace(fullName(origin), said, error);
  const advice = /maximum number of logical volumes/i.test(said)
    ? `Allow more in the group (vgchange --logicalvolume), or remove some. ${AS_DEVICE}`
    : AS_DEVICE;
  return new TimebandError(`no snapshot of ${fullName(origin)} can be made: ${said}. ${advice}`, { code: 'TOOL_FAILED', cause: error });
}

/** /dev/dm-N means another volume after the next boot. */
function lastingLocation(location: string, { group, volume }: VolumeName): string {
  return /^\/dev\/dm-\d+$/.test(location) ? `/dev/${group}/${volume}` : location;
}

/** Also where the volume is gone or not active: its name tells the group. */
async function forget(location: string, { owner }: SourceContext): Promise<readonly string[]> {
  const found = await findThinVolume(location);
  const group = (typeof found === 'string' ? volumeNameOfPath(location) : found.name)?.group;
  if (owner === undefined || group === undefined || !(await isInstalled('lvm'))) return [];
  const references = referencesOf(await listVolumes(group), owner);
  for (const { name } of references) await removeSnapshot({ group, volume: name });
  return references.map(({ name }) => `the LVM snapshot ${fullName({ group, volume: name })}`);
}

export const lvmThinDriver: SourceDriver = { kind: 'lvm-thin', probe, open, forget };
