/** A session's manifest: what it is, and the digests of its index pages and bitmap. FORMAT.md, "Manifest". */
import { TimebandError } from '../errors.ts';
import { toHex } from './bytes.ts';
import { bandCountOf, isBandBytes, pageCountOf, SECTOR_BYTES } from './geometry.ts';
import { type Fields, type JsonCodec, jsonCodec } from './json-record.ts';
import { ID_BYTES } from './keys.ts';
import { type Padding, readPadding } from './padding.ts';
import { parseSessionId } from './session-id.ts';

export const DIGEST_BYTES = 32;

/** Counts and sizes of a session, in bands and bytes. */
export interface SessionTotals {
  /** Bands of the volume. */
  readonly bands: number;
  /** Bands that are all zeros and have no file. */
  readonly zeroBands: number;
  /** Bands whose content differs from the base's. */
  readonly changedBands: number;
  /** Bytes of all band files of the session. */
  readonly storedBytes: number;
  /** Bytes of the band files that this session wrote itself. */
  readonly writtenBytes: number;
}

/** Where a session's data came from, for people and for `sync NAME` on another day. */
export interface SourceDescription {
  /** `image`, `device`, … */
  readonly kind: string;
  /** As the user may give it again: an absolute path. */
  readonly location: string;
  readonly host: string;
}

export interface Manifest {
  readonly sessionId: string;
  readonly volumeId: Uint8Array;
  readonly sizeBytes: number;
  readonly bandBytes: number;
  readonly startedMs: number;
  readonly finishedMs: number;
  /** The session that unchanged bands were linked from, and the SHA-256 of its sealed manifest. */
  readonly base: { readonly sessionId: string; readonly manifestDigest: Uint8Array } | undefined;
  /** SHA-256 of each sealed index page file, in order. */
  readonly pageDigests: readonly Uint8Array[];
  /** SHA-256 of the sealed bitmap file. */
  readonly bitmapDigest: Uint8Array;
  readonly source: SourceDescription;
  readonly totals: SessionTotals;
  /** The program that wrote it. */
  readonly program: string;
  /** The volume's: should its record be lost, the bands that are stored from then on are not to be told from these. */
  readonly padding: Padding | undefined;
  /** Of the volume's key domain, 16 bytes: with the master key it is enough to open the bands. Undefined: the volume is in none. */
  readonly domainId: Uint8Array | undefined;
}

function malformed(message: string): TimebandError {
  return new TimebandError(`manifest: ${message}`, { code: 'RECORD_CORRUPT' });
}

function readSessionId(fields: Fields, name: string): string {
  const id = fields.string(name);
  if (parseSessionId(id) === undefined) throw malformed(`field "${name}" is not a session id`);
  return id;
}

function readBase(fields: Fields, sessionId: string): NonNullable<Manifest['base']> {
  const base = { sessionId: readSessionId(fields, 'session'), manifestDigest: fields.hex('manifest', DIGEST_BYTES) };
  if (base.sessionId >= sessionId) throw malformed(`its base ${base.sessionId} is not older than itself`);
  return base;
}

function readTotals(fields: Fields, bands: number): SessionTotals {
  return {
    bands: fields.constant('bands', bands),
    zeroBands: fields.integer('zeroBands', 0, bands),
    changedBands: fields.integer('changedBands', 0, bands),
    storedBytes: fields.integer('storedBytes'),
    writtenBytes: fields.integer('writtenBytes'),
  };
}

export const manifestCodec: JsonCodec<Manifest> = jsonCodec('manifest', {
  toJson: (manifest) => ({
    format: 'timeband-session',
    version: 1,
    session: manifest.sessionId,
    volume: toHex(manifest.volumeId),
    sizeBytes: manifest.sizeBytes,
    bandBytes: manifest.bandBytes,
    started: new Date(manifest.startedMs).toISOString(),
    finished: new Date(manifest.finishedMs).toISOString(),
    base: manifest.base === undefined ? null : { session: manifest.base.sessionId, manifest: toHex(manifest.base.manifestDigest) },
    pages: manifest.pageDigests.map((digest) => toHex(digest)),
    bitmap: toHex(manifest.bitmapDigest),
    source: { kind: manifest.source.kind, location: manifest.source.location, host: manifest.source.host },
    totals: {
      bands: manifest.totals.bands,
      zeroBands: manifest.totals.zeroBands,
      changedBands: manifest.totals.changedBands,
      storedBytes: manifest.totals.storedBytes,
      writtenBytes: manifest.totals.writtenBytes,
    },
    program: manifest.program,
    ...(manifest.padding === undefined ? {} : { pad: manifest.padding }),
    ...(manifest.domainId === undefined ? {} : { domain: toHex(manifest.domainId) }),
  }),
  fromJson(fields) {
    fields.constant('format', 'timeband-session');
    fields.constant('version', 1);
    const sizeBytes = fields.integer('sizeBytes', SECTOR_BYTES);
    const bandBytes = fields.integer('bandBytes');
    if (!isBandBytes(bandBytes) || sizeBytes % SECTOR_BYTES !== 0) throw malformed('impossible size');
    const bands = bandCountOf(sizeBytes, bandBytes);
    const pageDigests = fields.hexList('pages', DIGEST_BYTES);
    if (pageDigests.length !== pageCountOf(bands)) throw malformed(`${pageDigests.length} index pages for ${bands} bands`);
    const source = fields.object('source');
    const sessionId = readSessionId(fields, 'session');
    return {
      sessionId,
      volumeId: fields.hex('volume', ID_BYTES),
      sizeBytes,
      bandBytes,
      startedMs: fields.time('started'),
      finishedMs: fields.time('finished'),
      base: fields.optional('base', (base) => readBase(base, sessionId)),
      pageDigests,
      bitmapDigest: fields.hex('bitmap', DIGEST_BYTES),
      source: { kind: source.string('kind'), location: source.string('location'), host: source.string('host') },
      totals: readTotals(fields.object('totals'), bands),
      program: fields.string('program'),
      padding: readPadding(fields, bandBytes),
      domainId: fields.has('domain') ? fields.hex('domain', ID_BYTES) : undefined,
    };
  },
});
