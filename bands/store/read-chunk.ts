/** Random access: one chunk of a band file, and nothing else of it. */
import { readSync } from 'node:fs';
import { TimebandError, withPath } from '../errors.ts';
import { type BandContext, bandHeaderBytes, openBandHeader, openChunk } from '../format/band-file.ts';
import { CHUNK_BYTES, MAX_BAND_BYTES } from '../format/geometry.ts';
import type { StoredBand } from '../format/index-page.ts';
import { TAG_BYTES } from '../format/primitives.ts';
import { withBandFileSync } from './open-band-file.ts';

/** Which chunk, and where it goes. */
export interface ChunkRequest {
  readonly file: string;
  readonly band: StoredBand;
  readonly chunk: number;
  /** 128 KiB. */
  readonly out: Uint8Array;
}

/** A thread's own: nothing waits while they are in use. */
const header = new Uint8Array(bandHeaderBytes(MAX_BAND_BYTES));
const sealed = new Uint8Array(CHUNK_BYTES + TAG_BYTES);
const scratch = new Uint8Array(CHUNK_BYTES);

/**
 * Reads a band file's header and one chunk, and decodes it. Does not wait: it is for worker threads, and for disks that
 * answer at once.
 * @throws TimebandError BAND_MISSING, BAND_CORRUPT, IO_ERROR
 */
export function readChunk(context: BandContext, { file, band, chunk, out }: ChunkRequest): void {
  try {
    withBandFileSync(file, band, (fd) => {
      const start = readFully(fd, header.subarray(0, bandHeaderBytes(context.bandBytes)), 0, file);
      const opened = openBandHeader(context, start, band);
      const place = opened.chunks[chunk];
      if (place === undefined) throw new RangeError('chunk: beyond the band');
      const bytes = readFully(fd, sealed.subarray(0, place.length), place.offset, file);
      openChunk(context, opened, { number: chunk, sealed: bytes, scratch, out });
    });
  } catch (error) {
    throw withPath(error, file);
  }
}

/** Fills `out` from `position` on. */
function readFully(fd: number, out: Uint8Array, position: number, file: string): Uint8Array {
  for (let done = 0; done < out.length; ) {
    const got = readSync(fd, out, done, out.length - done, position + done);
    if (got === 0) throw new TimebandError(`${file}: ends at byte ${position + done}, too early`, { code: 'IO_ERROR', path: file });
    done += got;
  }
  return out;
}
