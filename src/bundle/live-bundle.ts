/**
 * A live bundle: a plain sparse bundle as a disk that can be written. A band gets a file when it is first written to; what is
 * made zeros up to the end of a band's file is cut off, and a band that is all zeros has no file again.
 */
import { ftruncate, read, write } from 'node:fs';
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { bandRanges } from '../../bands/format/geometry.ts';
import type { WritableImage } from '../../bands/store/image.ts';
import { RangeLocks } from '../../bands/store/range-locks.ts';
import { isZero } from '../../bands/workers/buffers.ts';
import { type BundleInfo, readBundleInfo, scanBands } from '../sources/bundle/bundle-files.ts';
import { TokenLock } from '../sources/bundle/token-lock.ts';
import { type OpenBand, OpenBands } from './open-bands.ts';

const readAt = promisify(read);
const writeAt = promisify(write);
const cut = promisify(ftruncate);
const zeros: Uint8Array = new Uint8Array(131_072);

/** The bytes of a band that were made zeros, in one piece, since it was last written to. */
interface ZeroRun {
  readonly from: number;
  readonly to: number;
}

export class LiveBundle implements WritableImage {
  readonly path: string;
  readonly sizeBytes: number;
  readonly warnings: readonly string[];
  readonly #bandBytes: number;
  readonly #bands: OpenBands;
  readonly #lock: TokenLock;
  /** Writes to one band take turns, so that none goes to a file that is being removed. */
  readonly #turns: RangeLocks = new RangeLocks();
  readonly #zeroRuns = new Map<number, ZeroRun>();

  private constructor(bundle: string, info: BundleInfo, lock: TokenLock) {
    this.path = bundle;
    this.sizeBytes = info.sizeBytes;
    this.warnings = info.warnings;
    this.#bandBytes = info.bandBytes;
    this.#bands = new OpenBands(bundle);
    this.#lock = lock;
  }

  /** @throws TimebandError SOURCE_INVALID, LOCKED, TOOL_MISSING, PERMISSION_DENIED, IO_ERROR */
  static async open(location: string): Promise<LiveBundle> {
    const bundle = await realpath(location).catch((error: unknown) => {
      throw ioError(error, 'find', location);
    });
    const lock = await TokenLock.take(path.join(bundle, 'token'), 'exclusive');
    try {
      if (lock.warnings.length > 0) {
        throw new TimebandError(`${lock.warnings.join(' ')} Nothing was attached.`, { code: 'SOURCE_INVALID', path: bundle });
      }
      const info = await readBundleInfo(bundle);
      await scanBands(bundle, info); // what does not fit is not written to
      return new LiveBundle(bundle, info, lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async read(out: Uint8Array, offset: number): Promise<void> {
    for (const { bandIndex, start, length, position } of bandRanges(offset, out.length, this.#bandBytes)) {
      const part = out.subarray(position, position + length);
      const filled = (await this.#bands.use(bandIndex, false, (band) => fill(band, part, start))) ?? 0;
      part.fill(0, filled); // behind the end of the file, or without one
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    for (const { bandIndex, start, length, position } of bandRanges(offset, bytes.length, this.#bandBytes)) {
      const part = bytes.subarray(position, position + length);
      await this.#turns.run(bandIndex, bandIndex + 1, () =>
        isZero(part) ? this.#zero(bandIndex, start, length) : this.#put(bandIndex, start, part),
      );
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    for (const part of bandRanges(offset, length, this.#bandBytes)) {
      await this.#turns.run(part.bandIndex, part.bandIndex + 1, () => this.#zero(part.bandIndex, part.start, part.length));
    }
  }

  async #put(index: number, start: number, part: Uint8Array): Promise<void> {
    this.#zeroRuns.delete(index);
    await this.#bands.use(index, true, (band) => put(band, part, start));
  }

  async #zero(index: number, start: number, length: number): Promise<void> {
    const run = joined(this.#zeroRuns.get(index), { from: start, to: start + length });
    const isEmpty = await this.#bands.use(index, false, async (band) => {
      if (start >= band.sizeBytes) return false;
      if (run.to < band.sizeBytes) await putZeros(band, start, length);
      else if (run.from > 0) await cutBand(band, run.from);
      return run.from === 0 && run.to >= band.sizeBytes;
    });
    if (isEmpty === true) await this.#bands.remove(index);
    if (isEmpty === false) this.#zeroRuns.set(index, run);
    else this.#zeroRuns.delete(index); // there is no file
  }

  async flush(): Promise<void> {
    await this.#bands.flush();
  }

  /** Makes all durable and lets go of the bundle. Nothing may be written any more. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.#bands.close();
      await this.#lock.release();
    }
  }
}

/** Both, if they touch; else the new one. */
function joined(old: ZeroRun | undefined, next: ZeroRun): ZeroRun {
  if (old === undefined || next.from > old.to || old.from > next.to) return next;
  return { from: Math.min(old.from, next.from), to: Math.max(old.to, next.to) };
}

/** @returns how many bytes there are before the end of the file */
async function fill(band: OpenBand, out: Uint8Array, start: number): Promise<number> {
  try {
    for (let done = 0; done < out.length; ) {
      const { bytesRead } = await readAt(band.fd, out, done, out.length - done, start + done);
      if (bytesRead === 0) return done;
      done += bytesRead;
    }
    return out.length;
  } catch (error) {
    throw ioError(error, 'read the band', band.path);
  }
}

async function put(band: OpenBand, bytes: Uint8Array, start: number): Promise<void> {
  try {
    for (let done = 0; done < bytes.length; ) {
      done += (await writeAt(band.fd, bytes, done, bytes.length - done, start + done)).bytesWritten;
      band.sizeBytes = Math.max(band.sizeBytes, start + done);
    }
  } catch (error) {
    throw ioError(error, 'write to the band', band.path);
  } finally {
    band.isDirty = true; // afterwards: a flush that began before does not cover it
  }
}

/** Up to the end of the file. */
async function putZeros(band: OpenBand, start: number, length: number): Promise<void> {
  const end = Math.min(start + length, band.sizeBytes);
  for (let at = start; at < end; at += zeros.length) await put(band, zeros.subarray(0, Math.min(zeros.length, end - at)), at);
}

async function cutBand(band: OpenBand, sizeBytes: number): Promise<void> {
  try {
    await cut(band.fd, sizeBytes);
    band.sizeBytes = sizeBytes;
  } catch (error) {
    throw ioError(error, 'cut the band', band.path);
  } finally {
    band.isDirty = true;
  }
}
