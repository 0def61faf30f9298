/**
 * A source: a tracked image, attached. The process that serves it freezes it, knows what was written to since a session, and
 * keeps that knowledge bound to the session (src/tracked/). If it, or this sync, is killed, the other notices and lets go.
 */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ioError, TimebandError } from '../../../bands/errors.ts';
import { Bitmap } from '../../../bands/format/bitmap.ts';
import { type ByteRange, bandCountOf } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import { dirtyRanges, TRACKED_BAND_BYTES } from '../../tracked/change-tracker.ts';
import { ControlClient } from '../../tracked/control-client.ts';
import type { FrozenAnswer } from '../../tracked/control-protocol.ts';
import { trackedKeyOf } from '../../tracked/mount-label.ts';
import { trackedRoot } from '../../tracked/track-store.ts';
import type { DataMap } from '../data-map.ts';
import { typeOfLocation } from '../image-source.ts';
import type { ChangeSet, SessionToken, SourceContext, SourceDriver, SourceProbe, SourceView } from '../source.ts';
import { TrackedData } from './tracked-data.ts';

/** A sync that was killed a moment ago holds its frozen point until its connection is seen to end. */
const FREEZE_ATTEMPTS = 20;
const FREEZE_POLL_MS = 50;

class TrackedView implements SourceView {
  readonly kind = 'tracked';
  readonly location: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[] = [];
  readonly #client: ControlClient;
  readonly #data: TrackedData;

  constructor(location: string, parts: { readonly client: ControlClient; readonly frozen: FrozenAnswer; readonly data: TrackedData }) {
    this.location = location;
    this.sizeBytes = parts.frozen.sizeBytes;
    this.#client = parts.client;
    this.#data = parts.data;
  }

  async readDataMap(): Promise<DataMap | undefined> {
    return await this.#data.readDataMap();
  }

  async changesSince(base: SessionToken | undefined): Promise<ChangeSet> {
    if (base === undefined) return { isKnown: false, reason: undefined };
    const answer = await this.#client.ask('changes', { token: base });
    if ('reason' in answer) return { isKnown: false, reason: answer.reason };
    const dirty = Bitmap.decode(Buffer.from(answer.bitmap, 'base64'), bandCountOf(this.sizeBytes, TRACKED_BAND_BYTES));
    return { isKnown: true, ranges: dirtyRanges(dirty, this.sizeBytes) };
  }

  async withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return await this.#data.withBand(range, data, use);
  }

  async verifyStable(): Promise<readonly string[]> {
    await this.#data.check();
    return [];
  }

  async bind(token: SessionToken): Promise<void> {
    await this.#client.ask('bind', { token });
  }

  async committed(token: SessionToken): Promise<readonly string[]> {
    await this.#client.ask('keepOnly', { token });
    return [];
  }

  async close(): Promise<void> {
    if (this.#client.isConnected) await this.#client.ask('thaw', {}).catch(() => undefined); // it ends with the connection, too
    this.#client.close();
    await this.#data.close();
  }
}

/** @throws TimebandError SOURCE_INVALID */
async function connectTo(location: string, stateDirectory: string | undefined): Promise<ControlClient> {
  const key = await trackedKeyOf(location);
  if (key === undefined)
    throw new TimebandError(`${location} is not (or no more) a tracked image that is attached.`, { code: 'SOURCE_INVALID', path: location });
  const client = stateDirectory === undefined ? undefined : await ControlClient.connect(path.join(trackedRoot(stateDirectory), key));
  if (client !== undefined) return client;
  throw new TimebandError(
    `the process that serves ${location} cannot be reached through ${stateDirectory ?? 'a state folder'}: it was attached by another user, or with another TIMEBAND_STATE_DIR. Sync with the same one.`,
    { code: 'SOURCE_INVALID', path: location },
  );
}

/** What programs wrote through memory maps is with the kernel until then. */
async function writeBack(location: string): Promise<void> {
  try {
    await using handle = await open(location, 'r');
    await handle.sync();
  } catch (error) {
    throw ioError(error, 'make durable', location);
  }
}

async function freeze(client: ControlClient, isDryRun: boolean): Promise<FrozenAnswer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await client.ask('freeze', { isDryRun });
    } catch (error) {
      if (!(error instanceof TimebandError) || error.code !== 'LOCKED' || attempt === FREEZE_ATTEMPTS) throw error;
      await sleep(FREEZE_POLL_MS);
    }
  }
}

async function openTrackedSource(location: string, { stateDirectory, isDryRun }: SourceContext): Promise<SourceView> {
  const client = await connectTo(location, stateDirectory);
  try {
    await writeBack(location);
    const frozen = await freeze(client, isDryRun);
    return new TrackedView(location, { client, frozen, data: await TrackedData.open(client, frozen) });
  } catch (error) {
    client.close();
    throw error;
  }
}

export const trackedDriver: SourceDriver = {
  kind: 'tracked',
  async probe(location): Promise<SourceProbe> {
    const isTracked = (await typeOfLocation(location)) === 'file' && (await trackedKeyOf(location)) !== undefined;
    return isTracked
      ? { applies: true, reason: 'a tracked image; its bitmap tells what was written to, and it is read as of one instant' }
      : { applies: false, reason: 'it is no tracked image that is attached' };
  },
  open: openTrackedSource,
  async forget(location, { owner, stateDirectory }) {
    if (owner === undefined) return [];
    const client = await connectTo(location, stateDirectory);
    try {
      const { sessions } = await client.ask('forget', { owner });
      return sessions === 0 ? [] : [`the marks of ${sessions} session(s) in the bitmap of ${location}`];
    } finally {
      client.close();
    }
  },
};
