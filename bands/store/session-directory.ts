/**
 * One committed session on disk, read through its seals. FORMAT.md, "Session".
 * Everything that comes out was authenticated: the manifest by the records key and its place, pages and bitmap by the
 * digests in the manifest.
 */
import path from 'node:path';
import { nodePrimitives } from '../crypto/node-primitives.ts';
import { TimebandError, withPath } from '../errors.ts';
import { Bitmap } from '../format/bitmap.ts';
import { equalBytes } from '../format/bytes.ts';
import { bandCountOf, ENTRIES_PER_PAGE, entriesInPage, pageCountOf } from '../format/geometry.ts';
import { decodePage, ENTRY_BYTES, type PageEntries, readEntry, type StoredBand } from '../format/index-page.ts';
import type { VolumeKeys } from '../format/keys.ts';
import { type Labels, labelsCodec, NO_LABELS } from '../format/labels.ts';
import { type Manifest, manifestCodec } from '../format/manifest.ts';
import { encodeNames } from '../format/names.ts';
import type { Padding } from '../format/padding.ts';
import type { CipherName } from '../format/primitives.ts';
import { openRecord, RECORD_OVERHEAD_BYTES } from '../format/record.ts';
import { readRegularFile } from './files.ts';

/** What reading the sessions of one volume needs. */
export interface VolumeContext {
  readonly volumeId: Uint8Array;
  readonly cipher: CipherName;
  readonly bandBytes: number;
  /** How band files of the volume are padded; undefined: not at all. */
  readonly padding: Padding | undefined;
  readonly keys: VolumeKeys;
}

/** Whether the volume is in a key domain, so that other volumes may share its band files. */
export function isInDomain({ volumeId, keys }: VolumeContext): boolean {
  return !equalBytes(keys.domainId, volumeId);
}

/** A cache of opened index pages. The digest of the sealed file pins the content, so a hit is as good as the file. */
export interface PageCache {
  get(pageNumber: number, sealedDigest: Uint8Array): Promise<Uint8Array | undefined>;
}

const MAX_MANIFEST_BYTES = 268_435_456;
const MAX_LABELS_BYTES = 1_048_576;
const MAX_RECENT_PAGES = 64;

/** Names of the files and folders within a session's folder. */
export const SESSION_FILES = { manifest: 'manifest', labels: 'labels', bitmap: 'bitmap', index: 'index', bands: 'bands' } as const;

export class SessionDirectory {
  readonly directory: string;
  readonly context: VolumeContext;
  readonly manifest: Manifest;
  /** SHA-256 of the sealed manifest file. */
  readonly manifestDigest: Uint8Array;
  readonly bandCount: number;
  readonly pageCount: number;
  readonly #pageCache: PageCache | undefined;
  readonly #recent = new Map<number, Promise<PageEntries>>();
  #pageNames: string[] | undefined;

  private constructor(directory: string, context: VolumeContext, read: { manifest: Manifest; digest: Uint8Array; pageCache: PageCache | undefined }) {
    this.directory = directory;
    this.context = context;
    this.manifest = read.manifest;
    this.manifestDigest = read.digest;
    this.bandCount = bandCountOf(read.manifest.sizeBytes, read.manifest.bandBytes);
    this.pageCount = pageCountOf(this.bandCount);
    this.#pageCache = read.pageCache;
  }

  /**
   * Opens the session in `directory`, whose name is the session's id.
   * @throws TimebandError RECORD_MISSING, RECORD_CORRUPT
   */
  static async open(directory: string, context: VolumeContext, pageCache?: PageCache): Promise<SessionDirectory> {
    const sessionId = path.basename(directory);
    const file = path.join(directory, SESSION_FILES.manifest);
    const sealed = await readRegularFile(file, { maxBytes: MAX_MANIFEST_BYTES, what: 'manifest' });
    try {
      const plain = openRecord(context.keys.recordsKey, { kind: 'manifest', volumeId: context.volumeId, at: sessionId }, sealed);
      const manifest = manifestCodec.decode(plain);
      const isInPlace =
        manifest.sessionId === sessionId && equalBytes(manifest.volumeId, context.volumeId) && manifest.bandBytes === context.bandBytes;
      if (isInPlace && !equalBytes(manifest.domainId ?? context.volumeId, context.keys.domainId))
        throw new TimebandError('manifest: its bands are sealed for another key domain than the volume record names', { code: 'RECORD_CORRUPT' });
      if (!isInPlace) throw new TimebandError('manifest: of another session or volume', { code: 'RECORD_CORRUPT' });
      return new SessionDirectory(directory, context, { manifest, digest: nodePrimitives.sha256(sealed), pageCache });
    } catch (error) {
      throw withPath(error, file);
    }
  }

  get sessionId(): string {
    return this.manifest.sessionId;
  }

  /** The file of index page `pageNumber`. */
  pagePath(pageNumber: number): string {
    this.#pageNames ??= encodeNames(nodePrimitives, this.context.keys.namesKey, { kind: 'page', first: 0, count: this.pageCount });
    return path.join(this.directory, SESSION_FILES.index, this.#pageNames[pageNumber] ?? '');
  }

  /** The entries of page `pageNumber`, shared and not to be written to; recently used pages are kept. @throws TimebandError RECORD_MISSING, RECORD_CORRUPT */
  async readPage(pageNumber: number): Promise<PageEntries> {
    const recent = this.#recent.get(pageNumber);
    if (recent !== undefined) {
      this.#recent.delete(pageNumber); // to the young end again
      this.#recent.set(pageNumber, recent);
      return await recent;
    }
    const reading = this.#loadPage(pageNumber);
    this.#recent.set(pageNumber, reading);
    reading.catch(() => this.#recent.delete(pageNumber));
    const oldest = this.#recent.keys().next().value;
    if (this.#recent.size > MAX_RECENT_PAGES && oldest !== undefined) this.#recent.delete(oldest);
    return await reading;
  }

  async #loadPage(pageNumber: number): Promise<PageEntries> {
    const digest = this.manifest.pageDigests[pageNumber];
    if (digest === undefined) throw new RangeError('pageNumber: beyond the index');
    const shape = { entries: entriesInPage(pageNumber, this.bandCount), bandBytes: this.context.bandBytes };
    const cached = await this.#pageCache?.get(pageNumber, digest);
    if (cached !== undefined && cached.length === shape.entries * ENTRY_BYTES) return decodePage(cached, shape);
    return await this.readPageFile(pageNumber);
  }

  /** Like readPage, but always from the file: what `check` uses. */
  async readPageFile(pageNumber: number): Promise<PageEntries> {
    const file = this.pagePath(pageNumber);
    const entries = entriesInPage(pageNumber, this.bandCount);
    const sealed = await readRegularFile(file, { maxBytes: entries * ENTRY_BYTES + RECORD_OVERHEAD_BYTES, what: 'index page' });
    try {
      const digest = this.manifest.pageDigests[pageNumber] ?? new Uint8Array(0);
      const plain = openRecord(this.context.keys.recordsKey, { kind: 'page', volumeId: this.context.volumeId, at: pageNumber }, sealed);
      if (!equalBytes(nodePrimitives.sha256(sealed), digest)) {
        throw new TimebandError('index page: not the one that the manifest names (an older or newer page)', { code: 'RECORD_CORRUPT' });
      }
      return decodePage(plain, { entries, bandBytes: this.context.bandBytes });
    } catch (error) {
      throw withPath(error, file);
    }
  }

  /** Whether the file of page `pageNumber` is the one that the manifest names, whatever a cache said of its content. */
  async isPageFileIntact(pageNumber: number): Promise<boolean> {
    try {
      await this.readSealed({ page: pageNumber });
      return true;
    } catch {
      return false; // missing, cut or unreadable: not to be linked
    }
  }

  /**
   * The sealed file of an index page, of the bitmap or of the manifest, byte for byte, if it is the one that the manifest pins.
   * @throws TimebandError RECORD_MISSING, RECORD_CORRUPT
   */
  async readSealed(record: { readonly page: number } | 'bitmap' | 'manifest'): Promise<Uint8Array> {
    const { file, what, maxBytes, digest } = this.#placeOf(record);
    const sealed = await readRegularFile(file, { maxBytes, what });
    if (equalBytes(nodePrimitives.sha256(sealed), digest)) return sealed;
    throw new TimebandError(`${file}: the ${what} is not the one that the manifest names`, { code: 'RECORD_CORRUPT', path: file });
  }

  #placeOf(record: { readonly page: number } | 'bitmap' | 'manifest'): { file: string; what: string; maxBytes: number; digest: Uint8Array } {
    const at = (name: string): string => path.join(this.directory, name);
    if (record === 'manifest')
      return { file: at(SESSION_FILES.manifest), what: 'manifest', maxBytes: MAX_MANIFEST_BYTES, digest: this.manifestDigest };
    if (record === 'bitmap')
      return { file: at(SESSION_FILES.bitmap), what: 'bitmap', maxBytes: bitmapFileBytes(this.bandCount), digest: this.manifest.bitmapDigest };
    return {
      file: this.pagePath(record.page),
      what: 'index page',
      maxBytes: entriesInPage(record.page, this.bandCount) * ENTRY_BYTES + RECORD_OVERHEAD_BYTES,
      digest: this.manifest.pageDigests[record.page] ?? new Uint8Array(0),
    };
  }

  /** What the index says of band `bandIndex`; undefined for a zero band or one beyond the end. */
  async readBandEntry(bandIndex: number): Promise<StoredBand | undefined> {
    if (bandIndex >= this.bandCount) return undefined;
    const page = await this.readPage(Math.floor(bandIndex / ENTRIES_PER_PAGE));
    return readEntry(page, bandIndex % ENTRIES_PER_PAGE);
  }

  /** Paths of the files of `count` bands from `first` (whether they have files or not). */
  bandPaths(first: number, count: number): string[] {
    const directory = path.join(this.directory, SESSION_FILES.bands);
    return encodeNames(nodePrimitives, this.context.keys.namesKey, { kind: 'band', first, count }).map((name) => `${directory}/${name}`);
  }

  /** The bands that differ from the base. @throws TimebandError RECORD_MISSING, RECORD_CORRUPT */
  async readBitmap(): Promise<Bitmap> {
    const file = path.join(this.directory, SESSION_FILES.bitmap);
    const sealed = await readRegularFile(file, { maxBytes: bitmapFileBytes(this.bandCount), what: 'bitmap' });
    try {
      const plain = openRecord(this.context.keys.recordsKey, { kind: 'bitmap', volumeId: this.context.volumeId, at: this.sessionId }, sealed);
      if (!equalBytes(nodePrimitives.sha256(sealed), this.manifest.bitmapDigest)) {
        throw new TimebandError('bitmap: not the one that the manifest names', { code: 'RECORD_CORRUPT' });
      }
      return Bitmap.decode(plain, this.bandCount);
    } catch (error) {
      throw withPath(error, file);
    }
  }

  /** The session's labels. */
  async readLabels(): Promise<Labels> {
    return await readLabels(this.directory, this.context);
  }
}

function bitmapFileBytes(bandCount: number): number {
  return Math.ceil(bandCount / 8) + RECORD_OVERHEAD_BYTES;
}

/** The labels of the session in `directory`; none yet is NO_LABELS. @throws TimebandError RECORD_CORRUPT */
export async function readLabels(directory: string, context: Pick<VolumeContext, 'keys' | 'volumeId'>): Promise<Labels> {
  const file = path.join(directory, SESSION_FILES.labels);
  try {
    const sealed = await readRegularFile(file, { maxBytes: MAX_LABELS_BYTES, what: 'labels' });
    const plain = openRecord(context.keys.recordsKey, { kind: 'labels', volumeId: context.volumeId, at: path.basename(directory) }, sealed);
    return labelsCodec.decode(plain);
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'RECORD_MISSING') return NO_LABELS;
    throw withPath(error, file);
  }
}
