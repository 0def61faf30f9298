/**
 * An image file on XFS or btrfs: it is cloned at one instant and read from the clone. The clone of the last session is
 * kept, and what does not share its blocks with the new one has changed. Nothing is read to find that out.
 */
import { constants } from 'node:fs';
import { access, realpath, statfs } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError } from '../../../bands/errors.ts';
import { type ByteRange, checkVolumeSize } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import { type DataMap, readDataMap } from '../data-map.ts';
import { changedRanges, equalExtents } from '../extents.ts';
import { typeOfLocation } from '../image-source.ts';
import { readExtents } from '../read-extents.ts';
import type { ChangeSet, SessionToken, SourceContext, SourceDriver, SourceOwner, SourceProbe, SourceView } from '../source.ts';
import { SourceFile } from '../source-file.ts';
import { Clones } from './clones.ts';

/** statfs magic numbers. */
const FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x58465342, 'XFS'],
  [0x9123683e, 'btrfs'],
]);
/** Extents of the reference are read before and after those of the clone: as often until nothing moved in between. */
const MAX_ATTEMPTS = 5;
/** Clones are kept for somebody: for a trial that keeps none, for nobody. */
const NOBODY: SourceOwner = { repositoryId: '0'.repeat(32), volumeId: '0'.repeat(32) };

class ReflinkView implements SourceView {
  readonly kind = 'reflink';
  readonly warnings: readonly string[] = [];
  readonly location: string;
  readonly sizeBytes: number;
  readonly #clones: Clones;
  readonly #file: SourceFile;
  /** Whether the clone still has the name that close() removes. */
  #isBound = false;

  constructor(location: string, clones: Clones, frozen: { readonly file: SourceFile; readonly sizeBytes: number }) {
    this.location = location;
    this.#clones = clones;
    this.#file = frozen.file;
    this.sizeBytes = frozen.sizeBytes;
  }

  async readDataMap(): Promise<DataMap | undefined> {
    try {
      return await readDataMap({ ...openFile(this.#file), sizeBytes: this.sizeBytes });
    } catch (error) {
      throw ioError(error, 'read the source', this.#file.path);
    }
  }

  async changesSince(base: SessionToken | undefined): Promise<ChangeSet> {
    if (base === undefined) return { isKnown: false, reason: undefined };
    const reference = await this.#clones.find(base);
    if (reference === undefined) return unknown(`no reference of the newest session is kept in ${this.#clones.folder}; from now on there is one`);
    await using file = await SourceFile.open(reference);
    return await this.#compare(file);
  }

  async #compare(reference: SourceFile): Promise<ChangeSet> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const before = await readExtents(openFile(reference));
      const now = await readExtents(openFile(this.#file));
      const after = await readExtents(openFile(reference));
      if (before === undefined || now === undefined || after === undefined)
        return unknown('the file system does not tell where the blocks of the image are');
      if (equalExtents(before, after)) return { isKnown: true, ranges: changedRanges(before, now, this.sizeBytes) };
    }
    return unknown('the file system moves blocks (a balance or defragmentation is running)');
  }

  withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return use(this.#file.input(range, data));
  }

  verifyStable(): Promise<readonly string[]> {
    return Promise.resolve([]); // nobody writes to a clone
  }

  async bind(token: SessionToken): Promise<void> {
    await this.#clones.bind(this.#file.path, token);
    this.#isBound = true;
  }

  async committed(token: SessionToken): Promise<readonly string[]> {
    await this.#clones.clear(token);
    return [];
  }

  async close(): Promise<void> {
    await this.#file.close();
    if (!this.#isBound) await this.#clones.discard(this.#file.path);
  }
}

/** The file that is open, whatever has become of its name. */
function openFile({ handle }: SourceFile): { readonly fd: number; readonly path: string } {
  return { fd: handle.fd, path: `/proc/${process.pid}/fd/${handle.fd}` };
}

function unknown(reason: string): ChangeSet {
  return { isKnown: false, reason };
}

async function openReflink(location: string, { owner, isDryRun }: SourceContext): Promise<SourceView> {
  const clones = new Clones(await realpath(location), owner ?? NOBODY);
  if (!isDryRun) await clones.clearFrozen();
  const clone = await clones.freeze();
  try {
    const file = await SourceFile.open(clone);
    if (isDryRun) await clones.discard(clone); // it stays readable; its name would outlive us if we were killed
    const { size } = await file.handle.stat();
    checkVolumeSize(size, location);
    return new ReflinkView(location, clones, { file, sizeBytes: size });
  } catch (error) {
    await clones.discard(clone);
    throw error;
  }
}

async function probe(location: string): Promise<SourceProbe> {
  if ((await typeOfLocation(location)) !== 'file') return { applies: false, reason: 'it is not a file' };
  const fileSystem = FILE_SYSTEMS.get((await statfs(location)).type);
  if (fileSystem === undefined) return { applies: false, reason: 'its file system has no clones (XFS and btrfs have)' };
  const folder = path.dirname(await realpath(location));
  try {
    await access(folder, constants.W_OK);
  } catch (error) {
    return { applies: false, reason: `no clone can be kept in ${folder} (${errnoOf(error)})` };
  }
  return { applies: true, reason: `a raw image file on ${fileSystem}; what changed is told by its extents, compared with those of a clone` };
}

export const reflinkDriver: SourceDriver = {
  kind: 'reflink',
  probe,
  open: openReflink,
  async forget(location, { owner }) {
    return owner === undefined ? [] : await new Clones(await realpath(location), owner).clear(undefined);
  },
};
