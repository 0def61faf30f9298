/** Random access: one chunk of a band file, and nothing else of it. */
import { withPath } from '../errors.ts';
import { openChunk } from '../format/band-file.ts';
import { type BandContext, type BandHeader, openBandHeader, paddedHeaderBytes } from '../format/band-header.ts';
import { CHUNK_BYTES, MAX_BAND_BYTES } from '../format/geometry.ts';
import type { StoredBand } from '../format/index-page.ts';
import { TAG_BYTES } from '../format/primitives.ts';
import type { HeaderCache } from './header-cache.ts';
import { withBandFile } from './open-band-file.ts';

/** Which chunk, and where it goes. */
export interface ChunkRequest {
  readonly file: string;
  readonly band: StoredBand;
  /** Of this sealing of the band. */
  readonly name: string;
  readonly chunk: number;
  /** 128 KiB. */
  readonly out: Uint8Array;
}

/** A thread's own: nothing waits while they are in use. */
const header = new Uint8Array(paddedHeaderBytes(MAX_BAND_BYTES));
const sealed = new Uint8Array(CHUNK_BYTES + TAG_BYTES);
const scratch = new Uint8Array(CHUNK_BYTES);

/**
 * Reads a band file's header and one chunk, and decodes it. Does not wait: it is for worker threads, and for disks that
 * answer at once.
 * @param headers those that need not be read again
 * @throws TimebandError BAND_MISSING, BAND_CORRUPT, IO_ERROR
 */
export function readChunk(context: BandContext, { file, band, name, chunk, out }: ChunkRequest, headers?: HeaderCache): void {
  try {
    withBandFile(file, band, (read) => {
      const opened = headers?.get(name) ?? readHeader(context, { band, name, read }, headers);
      const place = opened.chunks[chunk];
      if (place === undefined) throw new RangeError('chunk: beyond the band');
      const bytes = read(sealed.subarray(0, place.length), place.offset);
      openChunk(context, opened, { number: chunk, sealed: bytes, scratch, out });
    });
  } catch (error) {
    throw withPath(error, file);
  }
}

function readHeader(
  context: BandContext,
  from: { readonly band: StoredBand; readonly name: string; readonly read: (out: Uint8Array, position: number) => Uint8Array },
  headers: HeaderCache | undefined,
): BandHeader {
  const start = from.read(header.subarray(0, Math.min(paddedHeaderBytes(context.bandBytes), from.band.fileBytes)), 0);
  const opened = openBandHeader(context, start, from.band);
  headers?.put(from.name, opened);
  return opened;
}
