/**
 * A disk behind an NBD server that someone else runs: libvirt's `virsh backup-begin`, qemu-storage-daemon, qemu-nbd.
 *
 * A bitmap that it exports is theirs to rotate, and carries nothing that tells what it counts from. So it is believed only
 * if the user says which session that is (`since=`), and only if this is the base. `since` is true once and not remembered.
 */

import { TimebandError } from '../../../bands/errors.ts';
import { checkVolumeSize } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import { NbdClient } from '../../nbd/client/nbd-client.ts';
import { describeEndpoint, formatNbdAddress, type NbdAddress, parseNbdAddress } from '../../nbd/nbd-address.ts';
import { BASE_ALLOCATION, DIRTY_BITMAP_PREFIX } from '../../nbd/protocol.ts';
import type { DataMap } from '../data-map.ts';
import type { ChangeSet, SessionToken, SourceDriver, SourceProbe, SourceView } from '../source.ts';
import { NbdData } from './nbd-data.ts';

class NbdView implements SourceView {
  readonly kind = 'nbd';
  readonly location: string;
  readonly warnings: readonly string[];
  readonly sizeBytes: number;
  readonly #client: NbdClient;
  readonly #data: NbdData;
  readonly #bitmap: string | undefined;
  readonly #since: string | undefined;

  constructor(client: NbdClient, address: NbdAddress) {
    this.#client = client;
    this.#bitmap = address.parameters.get('bitmap');
    this.#since = address.parameters.get('since');
    this.#data = new NbdData(client, this.#bitmap);
    this.sizeBytes = client.sizeBytes;
    const lasting = new Map([...address.parameters].filter(([name]) => name !== 'since'));
    this.location = formatNbdAddress({ ...address, parameters: lasting });
    this.warnings = client.isReadOnly
      ? []
      : [
          `${this.location} can be written to, so it is not frozen: the copy may mix old and new data (as after a power cut). Export a snapshot, read-only.`,
        ];
  }

  async readDataMap(): Promise<DataMap | undefined> {
    return await this.#data.readDataMap();
  }

  async changesSince(base: SessionToken | undefined): Promise<ChangeSet> {
    if (base === undefined || this.#bitmap === undefined) return { isKnown: false, reason: undefined };
    const newest = base.sessionId ?? 'another';
    if (this.#since === undefined)
      return unknown(
        `nobody said which session the bitmap "${this.#bitmap}" counts from; if it counts from the newest one, add since=${newest} to the address`,
      );
    if (this.#since !== base.sessionId)
      return unknown(`the bitmap "${this.#bitmap}" counts from session ${this.#since}, but the newest session is ${newest}`);
    const ranges = await this.#data.readChanges();
    return ranges === undefined ? unknown(this.#whyNoBitmap(this.#bitmap)) : { isKnown: true, ranges };
  }

  #whyNoBitmap(bitmap: string): string {
    if (this.#client.contexts.has(DIRTY_BITMAP_PREFIX + bitmap)) return `the server tells what the bitmap "${bitmap}" holds, but not where data is`;
    const { offeredBitmaps } = this.#client;
    return `the server exports no bitmap "${bitmap}"${offeredBitmaps.length > 0 ? `, only ${offeredBitmaps.join(', ')}` : ''}`;
  }

  withBand<T>(
    range: { readonly offset: number; readonly length: number },
    data: readonly number[] | undefined,
    use: (input: BandInput) => Promise<T>,
  ): Promise<T> {
    return this.#data.withBand(range, data, use);
  }

  verifyStable(): Promise<readonly string[]> {
    return Promise.resolve([]); // what is exported is the server's word
  }

  bind(): Promise<void> {
    return Promise.resolve(); // nothing here is ours to keep
  }

  committed(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  async close(): Promise<void> {
    await this.#client.close();
  }
}

function unknown(reason: string): ChangeSet {
  return { isKnown: false, reason };
}

/** @throws TimebandError USAGE */
function parseLocation(location: string): NbdAddress {
  const address = parseNbdAddress(location, ['bitmap', 'since']);
  if (address.parameters.has('since') && !address.parameters.has('bitmap'))
    throw new TimebandError(`"${location}": since=SESSION says what a bitmap counts from; name it with bitmap=NAME.`, { code: 'USAGE' });
  return address;
}

export const nbdDriver: SourceDriver = {
  kind: 'nbd',
  probe(location): Promise<SourceProbe> {
    if (!/^nbd(\+unix)?:/.test(location)) return Promise.resolve({ applies: false, reason: 'it is no nbd:// or nbd+unix:// address' });
    const { parameters } = parseLocation(location);
    const how = parameters.has('bitmap') ? 'its bitmap tells what changed' : 'what changed is found by reading it';
    return Promise.resolve({ applies: true, reason: `an export of an NBD server; ${how}` });
  },
  async open(location): Promise<SourceView> {
    const address = parseLocation(location);
    const bitmap = address.parameters.get('bitmap');
    const contexts = [BASE_ALLOCATION, ...(bitmap === undefined ? [] : [DIRTY_BITMAP_PREFIX + bitmap])];
    const client = await NbdClient.connect({ ...address, contexts });
    try {
      checkVolumeSize(client.sizeBytes, `${describeEndpoint(address.endpoint)} export "${address.exportName}"`);
      return new NbdView(client, address);
    } catch (error) {
      await client.close();
      throw error;
    }
  },
  forget: () => Promise.resolve([]),
};
