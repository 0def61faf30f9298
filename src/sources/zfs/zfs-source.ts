/**
 * A source, experimental: a ZFS volume, `zfs:POOL/VOL`. A snapshot is read through its device; what changed is what an
 * incremental stream from the last session's snapshot would carry. Tried against recorded output only.
 */
import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, ioError, messageOf, TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, checkVolumeSize } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import { deviceNumbers, readDeviceSize } from '../block-device.ts';
import type { ChangeSet, SessionToken, SourceContext, SourceDriver, SourceOwner, SourceProbe, SourceView } from '../source.ts';
import { SourceFile } from '../source-file.ts';
import { dumpStream, getProperties, type Property, zfs } from './zfs-commands.ts';
import { ZstreamDump } from './zstream-dump.ts';
import { bindSnapshot, destroySnapshot, snapshotsOf, takeSnapshot, type ZvolSnapshot } from './zvol-snapshots.ts';

const SCHEME = 'zfs:';
const DEVICES = '/dev/zvol';
const DEVICE_ATTEMPTS = 200;
const DEVICE_RETRY_MS = 50;

/** What is held while a snapshot is read. */
interface OpenSnapshot {
  readonly volume: string;
  /** POOL/VOL@NAME. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly file: SourceFile;
  readonly owner: SourceOwner | undefined;
  readonly shown: Shown;
}

class ZvolView implements SourceView {
  readonly kind = 'zfs';
  readonly location: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[];
  readonly #snapshot: OpenSnapshot;
  #isBound = false;

  constructor(snapshot: OpenSnapshot) {
    this.#snapshot = snapshot;
    this.location = `${SCHEME}${snapshot.volume}`;
    this.sizeBytes = snapshot.sizeBytes;
    this.warnings = snapshot.shown.warnings;
  }

  readDataMap(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  async changesSince(base: SessionToken | undefined): Promise<ChangeSet> {
    if (base === undefined) return { isKnown: false, reason: undefined };
    try {
      return await this.#changesSince(base);
    } catch (error) {
      return { isKnown: false, reason: messageOf(error) };
    }
  }

  async #changesSince(base: SessionToken): Promise<ChangeSet> {
    const { volume, name, sizeBytes } = this.#snapshot;
    const all = await snapshotsOf(volume, base);
    const own = all.find((one) => one.name === name);
    const from = all.findLast((one) => one.session === base.commitId && one.name !== name);
    if (from === undefined || own === undefined) return { isKnown: false, reason: `no snapshot of ${volume} is bound to the last session` };
    const dump = new ZstreamDump({ fromGuid: from.guid, toGuid: own.guid, sizeBytes });
    await dumpStream(from.name, name, (line) => dump.line(line));
    const changes = dump.end();
    return 'reason' in changes ? { isKnown: false, reason: changes.reason } : { isKnown: true, ranges: changes.ranges };
  }

  withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return use(this.#snapshot.file.input(range, data));
  }

  /** A snapshot does not change. */
  verifyStable(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  async bind(token: SessionToken): Promise<void> {
    await bindSnapshot(this.#snapshot.name, token);
    this.#isBound = true;
  }

  async committed(token: SessionToken): Promise<readonly string[]> {
    const { volume, name } = this.#snapshot;
    const all = await snapshotsOf(volume, token);
    const kept = this.#isBound ? name : all.findLast((one) => one.session === token.commitId)?.name;
    return (await destroyAll(all.filter((one) => one.name !== kept && one.name !== name && !one.isInUse))).failed;
  }

  async close(): Promise<void> {
    await this.#snapshot.file.close();
    if (!this.#isBound) await destroySnapshot(this.#snapshot.name).catch(() => undefined); // the next sync drops it, and says so if it cannot
    await this.#snapshot.shown.undo();
  }
}

async function destroyAll(snapshots: readonly ZvolSnapshot[]): Promise<{ readonly destroyed: string[]; readonly failed: string[] }> {
  const destroyed: string[] = [];
  const failed: string[] = [];
  for (const { name } of snapshots) {
    try {
      await destroySnapshot(name);
      destroyed.push(name);
    } catch (error) {
      failed.push(`the snapshot ${name}, which is not needed any more, could not be destroyed: ${messageOf(error)}`);
    }
  }
  return { destroyed, failed };
}

/** @throws TimebandError SOURCE_INVALID */
function volumeOf(location: string): string {
  const volume = location.slice(SCHEME.length);
  if (/^[A-Za-z][\w.:-]*(?:\/\w[\w.:-]*)+$/.test(volume)) return volume;
  throw new TimebandError(`"${location}" is not the name of a ZFS volume: write zfs:POOL/VOLUME.`, { code: 'SOURCE_INVALID', path: location });
}

/** Looks at the volume. @returns its property `snapdev` @throws TimebandError TOOL_MISSING, SOURCE_NOT_FOUND, SOURCE_INVALID, TOOL_FAILED */
async function readVolume(volume: string): Promise<Property | undefined> {
  const properties = await getProperties(['type', 'snapdev'], volume);
  const type = properties.find(({ property }) => property === 'type')?.value;
  if (type === 'volume') return properties.find(({ property }) => property === 'snapdev');
  throw new TimebandError(`${volume} is a ZFS ${type}, not a volume: it has no device to read.`, { code: 'SOURCE_INVALID', path: volume });
}

interface Shown {
  readonly warnings: readonly string[];
  readonly undo: () => Promise<void>;
}

/**
 * Snapshots have devices only where `snapdev` says so. After a sync it stays on: to hide them again could hide them from
 * another reader. A dry run puts it back.
 */
async function showSnapshots(volume: string, snapdev: Property | undefined, isDryRun: boolean): Promise<Shown> {
  if (snapdev?.value === 'visible') return { warnings: [], undo: () => Promise.resolve() };
  await zfs('set', 'snapdev=visible', volume);
  if (!isDryRun) {
    const warning = `snapdev=visible was set on ${volume}, which gives its snapshots devices to be read through. It stays so.`;
    return { warnings: [warning], undo: () => Promise.resolve() };
  }
  const putBack = snapdev?.source === 'local' ? ['set', `snapdev=${snapdev.value}`, volume] : ['inherit', 'snapdev', volume];
  return { warnings: [], undo: async () => void (await zfs(...putBack)) };
}

/** @throws TimebandError TOOL_FAILED, SOURCE_INVALID */
async function openDevice(name: string, sizeBytes: number): Promise<SourceFile> {
  const device = path.join(DEVICES, name);
  const found = await waitFor(device);
  const deviceBytes = found.isBlockDevice() ? await readDeviceSize(deviceNumbers(found.rdev), device) : undefined;
  if (deviceBytes === sizeBytes) return await SourceFile.open(device);
  throw new TimebandError(`${device} is no device of ${sizeBytes} bytes, as ZFS says it is.`, { code: 'SOURCE_INVALID', path: device });
}

/** udev makes the device a moment after the snapshot. */
async function waitFor(device: string): Promise<BigIntStats> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await stat(device, { bigint: true });
    } catch (cause) {
      if (errnoOf(cause) !== 'ENOENT') throw ioError(cause, 'look at', device);
      const message = `the device ${device} did not appear. Check that udev runs, and that the volume's volmode gives it devices.`;
      if (attempt >= DEVICE_ATTEMPTS) throw new TimebandError(message, { code: 'TOOL_FAILED', cause, path: device });
      await sleep(DEVICE_RETRY_MS);
    }
  }
}

async function openZvol(location: string, { owner, isDryRun }: SourceContext): Promise<SourceView> {
  const volume = volumeOf(location);
  const shown = await showSnapshots(volume, await readVolume(volume), isDryRun);
  try {
    return new ZvolView({ volume, owner, shown, ...(await openSnapshot(volume, owner)) });
  } catch (error) {
    await shown.undo();
    throw error;
  }
}

async function openSnapshot(volume: string, owner: SourceOwner | undefined): Promise<Pick<OpenSnapshot, 'name' | 'sizeBytes' | 'file'>> {
  const name = await takeSnapshot(volume, owner);
  try {
    const [volsize] = await getProperties(['volsize'], name);
    const sizeBytes = Number(volsize?.value);
    checkVolumeSize(sizeBytes, name);
    return { name, sizeBytes, file: await openDevice(name, sizeBytes) };
  } catch (error) {
    await destroySnapshot(name).catch(() => undefined); // why it could not be opened is what matters
    throw error;
  }
}

export const zfsDriver: SourceDriver = {
  kind: 'zfs',
  async probe(location): Promise<SourceProbe> {
    if (!location.startsWith(SCHEME)) return { applies: false, reason: 'it is not zfs:POOL/VOLUME' };
    await readVolume(volumeOf(location));
    return { applies: true, reason: 'a ZFS volume (experimental); what changed is known from an incremental stream' };
  },
  open: openZvol,
  async forget(location, { owner }) {
    if (owner === undefined) return [];
    const { destroyed, failed } = await destroyAll(await snapshotsOf(volumeOf(location), owner));
    if (failed.length > 0) throw new TimebandError(failed.join('; '), { code: 'TOOL_FAILED' });
    return destroyed;
  },
};
