/**
 * A qcow2 image that no VM is using: read through a `qemu-nbd` of our own, with the changes from persistent bitmaps that we
 * rotate in it (qcow2-bitmaps.ts). As long as it is exported, QEMU keeps all others from writing to it.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, checkVolumeSize } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import type { DataMap } from '../data-map.ts';
import { typeOfLocation } from '../image-source.ts';
import { NbdData } from '../nbd/nbd-data.ts';
import type { ChangeSet, SessionToken, SourceContext, SourceDriver, SourceProbe, SourceView } from '../source.ts';
import { qcow2StateFolder } from './bindings.ts';
import { Qcow2Bitmaps } from './bitmaps.ts';
import { Qcow2Image, type Qcow2Info, readQcow2Header } from './qcow2-image.ts';
import { endLeftExporter, QemuExporter } from './qemu-exporter.ts';

/** Before a path: this is qcow2, and may have backing files. */
const SCHEME = 'qcow2:';

/** The image while it is exported. */
interface Frozen {
  readonly exporter: QemuExporter;
  readonly data: NbdData;
  readonly mtimeNs: bigint;
}

interface ViewParts {
  readonly image: Qcow2Image;
  readonly location: string;
  readonly sizeBytes: number;
  /** Undefined: none are kept. */
  readonly bitmaps: Qcow2Bitmaps | undefined;
  readonly warnings: readonly string[];
  readonly recordFile: string | undefined;
}

class Qcow2View implements SourceView {
  readonly kind = 'qcow2';
  readonly location: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[];
  readonly #parts: ViewParts;
  #frozen: Promise<Frozen> | undefined;

  constructor(parts: ViewParts) {
    this.#parts = parts;
    this.location = parts.location;
    this.sizeBytes = parts.sizeBytes;
    this.warnings = parts.warnings;
  }

  /** Exports the image on first use: which bitmap goes with it is known only when the base is. */
  #freeze(bitmap?: string): Promise<Frozen> {
    this.#frozen ??= this.#export(bitmap);
    return this.#frozen;
  }

  async #export(bitmap: string | undefined): Promise<Frozen> {
    const { image, recordFile } = this.#parts;
    const exporter = await QemuExporter.start({ image: image.path, imageOptions: image.options, bitmap, recordFile });
    try {
      if (exporter.client.sizeBytes !== this.sizeBytes) throw resized(image.path);
      const { mtimeNs } = await stat(image.path, { bigint: true });
      return { exporter, data: new NbdData(exporter.client, bitmap), mtimeNs };
    } catch (error) {
      await exporter.stop();
      throw error;
    }
  }

  async readDataMap(): Promise<DataMap | undefined> {
    return await (await this.#freeze()).data.readDataMap();
  }

  async changesSince(base: SessionToken | undefined): Promise<ChangeSet> {
    const { bitmaps } = this.#parts;
    if (base === undefined || bitmaps === undefined) return { isKnown: false, reason: undefined };
    const choice = bitmaps.choose(base);
    if ('reason' in choice) return { isKnown: false, reason: choice.reason };
    try {
      const { data } = await this.#freeze(choice.bitmap);
      const ranges = await data.readChanges();
      if (ranges === undefined) return { isKnown: false, reason: 'qemu-nbd does not export the bitmap' };
      if (await data.areDirty(choice.marks)) return { isKnown: true, ranges };
      return { isKnown: false, reason: `the bitmap in ${this.#parts.image.path} was cut (the disk was made smaller), cleared or replaced` };
    } catch (error) {
      if (!(error instanceof TimebandError) || error.code !== 'TOOL_FAILED') throw error;
      this.#frozen = undefined; // it did not start; perhaps it does without the bitmap
      return { isKnown: false, reason: `the bitmap cannot be exported: ${messageOf(error)}` };
    }
  }

  async withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return await (await this.#freeze()).data.withBand(range, data, use);
  }

  async verifyStable(): Promise<readonly string[]> {
    const { path: file } = this.#parts.image;
    const { mtimeNs } = await this.#freeze();
    if ((await stat(file, { bigint: true })).mtimeNs === mtimeNs) return [];
    return [`${file} was written to while it was read, by a program that does not heed QEMU's locks: this session may mix old and new data.`];
  }

  async bind(token: SessionToken): Promise<void> {
    await this.#parts.bitmaps?.bind(token);
  }

  async committed(token: SessionToken): Promise<readonly string[]> {
    await this.#thaw();
    await this.#parts.bitmaps?.keepOnly(token);
    return [];
  }

  async #thaw(): Promise<void> {
    const frozen = this.#frozen;
    this.#frozen = undefined;
    await (await frozen?.catch(() => undefined))?.exporter.stop(); // one that failed to start has cleaned up
  }

  async close(): Promise<void> {
    await this.#thaw();
    await this.#parts.bitmaps?.dropNext().catch(() => undefined); // the image is in use: the next sync removes it
  }
}

function resized(file: string): TimebandError {
  return new TimebandError(`the disk in ${file} changed its size just now. No session was made; run sync again when its size is at rest.`, {
    code: 'SOURCE_CHANGED',
    path: file,
  });
}

function pathOf(location: string): string {
  return path.resolve(location.startsWith(SCHEME) ? location.slice(SCHEME.length) : location);
}

/**
 * Before QEMU is asked: it would open what the header names.
 * @throws TimebandError SOURCE_INVALID
 */
async function refuseReferences(file: string): Promise<void> {
  if ((await readQcow2Header(file))?.refersToOthers !== true) return;
  throw new TimebandError(
    `${file} refers to another file (a backing file, or its data), which would be read, too. The guest of a raw disk could have written such a header: ` +
      `if this is meant to be a qcow2 image, name it ${SCHEME}${file}; if it is a raw disk, use --source image.`,
    { code: 'SOURCE_INVALID', path: file },
  );
}

/** @throws TimebandError SOURCE_INVALID, UNSUPPORTED */
function checkImage({ path: file }: Qcow2Image, info: Qcow2Info): void {
  if (info.isCorrupt) {
    throw new TimebandError(`${file} is marked as corrupt by QEMU. Copy it, and repair it: qemu-img check -r all.`, {
      code: 'SOURCE_INVALID',
      path: file,
    });
  }
  if (info.isEncrypted) {
    throw new TimebandError(`${file} is encrypted by QEMU, so its disk cannot be read. Back up the file as it is: --source image.`, {
      code: 'UNSUPPORTED',
      path: file,
    });
  }
  checkVolumeSize(info.sizeBytes, file);
}

async function openQcow2Source(location: string, context: SourceContext): Promise<SourceView> {
  const image = await Qcow2Image.at(pathOf(location));
  const { owner, stateDirectory, isDryRun } = context;
  const kept = owner === undefined || stateDirectory === undefined ? undefined : { owner, stateDirectory };
  const recordFile = kept === undefined || isDryRun ? undefined : exporterRecord(kept);
  if (recordFile !== undefined) await endLeftExporter(recordFile);
  if (!location.startsWith(SCHEME)) await refuseReferences(image.path);
  const info = await image.readInfo();
  checkImage(image, info);
  const bitmaps = kept === undefined ? undefined : await Qcow2Bitmaps.load(image, info, kept);
  const warnings = bitmaps === undefined || isDryRun ? [] : await bitmaps.addNext();
  const name = location.startsWith(SCHEME) ? SCHEME + image.path : image.path;
  return new Qcow2View({ image, location: name, sizeBytes: info.sizeBytes, bitmaps, warnings, recordFile });
}

function exporterRecord({
  owner,
  stateDirectory,
}: {
  readonly owner: { readonly repositoryId: string; readonly volumeId: string };
  readonly stateDirectory: string;
}): string {
  return path.join(qcow2StateFolder(stateDirectory, owner), `${owner.volumeId}.exporter`);
}

export const qcow2Driver: SourceDriver = {
  kind: 'qcow2',
  async probe(location): Promise<SourceProbe> {
    const reason = 'a qcow2 image; its bitmaps tell what changed';
    if (location.startsWith(SCHEME)) return { applies: true, reason };
    if ((await typeOfLocation(location)) !== 'file') return { applies: false, reason: 'it is no file' };
    return (await readQcow2Header(location)) !== undefined
      ? { applies: true, reason }
      : { applies: false, reason: 'it does not begin as qcow2 images do' };
  },
  open: openQcow2Source,
  async forget(location, { owner, stateDirectory }): Promise<readonly string[]> {
    if (owner === undefined || stateDirectory === undefined) return [];
    const image = await Qcow2Image.at(pathOf(location));
    const bitmaps = await Qcow2Bitmaps.load(image, await image.readInfo(), { owner, stateDirectory });
    return (await bitmaps.removeAll()).map((name) => `the bitmap ${name} in ${image.path}`);
  },
};
