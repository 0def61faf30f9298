/**
 * The bytes of a tracked image as it was frozen. A band is read from the backing file, and only then the process that serves
 * it is asked what of the band was written to since: that part comes from the aside file, where its old contents had gone before
 * the write began. So no writer ever waits for a sync.
 */
import { read } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { ioError, TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, mergeRanges } from '../../../bands/format/geometry.ts';
import type { BandInput } from '../../../bands/workers/tasks.ts';
import { identityOf } from '../../tracked/backing.ts';
import type { ControlClient } from '../../tracked/control-client.ts';
import type { FrozenAnswer } from '../../tracked/control-protocol.ts';
import { DataMap, readDataMap } from '../data-map.ts';
import { SharedBuffers } from '../nbd/shared-buffers.ts';

const readAt = promisify(read);

export class TrackedData {
  readonly #client: ControlClient;
  readonly #image: FileHandle;
  readonly #aside: FileHandle;
  readonly #frozen: FrozenAnswer;
  readonly #buffers: SharedBuffers = new SharedBuffers();

  private constructor(client: ControlClient, frozen: FrozenAnswer, files: { readonly image: FileHandle; readonly aside: FileHandle }) {
    this.#client = client;
    this.#frozen = frozen;
    this.#image = files.image;
    this.#aside = files.aside;
  }

  static async open(client: ControlClient, frozen: FrozenAnswer): Promise<TrackedData> {
    const image = await openFile(frozen.image);
    try {
      if (identityOf(image.fd) !== frozen.identity)
        throw new TimebandError(
          `${frozen.image} is another file than the one that was attached: that one was moved, or replaced. Detach it, and attach the right one.`,
          { code: 'SOURCE_CHANGED', path: frozen.image },
        );
      return new TrackedData(client, frozen, { image, aside: await openFile(frozen.aside) });
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  /** Where data was: what was written to since the map was read is taken for data. */
  async readDataMap(): Promise<DataMap | undefined> {
    const { image, sizeBytes } = this.#frozen;
    if (!(await this.#image.stat()).isFile()) return undefined;
    const map = await readDataMap({ fd: this.#image.fd, path: image, sizeBytes });
    const written = (await this.#ask({ offset: 0, length: sizeBytes })).map(({ offset, length }) => ({ offset, length }));
    return map === undefined ? undefined : new DataMap(mergeRanges([...map.ranges, ...written].sort((a, b) => a.offset - b.offset)), sizeBytes);
  }

  async #ask({ offset, length }: ByteRange): Promise<readonly (ByteRange & { readonly position: number })[]> {
    return (await this.#client.ask('parts', { offset, length })).parts;
  }

  /** @throws TimebandError SOURCE_CHANGED if what is read could not be kept as it was */
  async check(): Promise<void> {
    await this.#ask({ offset: 0, length: 0 });
  }

  /** As in SourceView. */
  async withBand<T>(range: ByteRange, data: readonly number[] | undefined, use: (input: BandInput) => Promise<T>): Promise<T> {
    return await this.#buffers.use(range.length, async (bytes) => {
      await this.#readImage(bytes, range.offset, data ?? [0, range.length]);
      for (const { offset, length, position } of await this.#ask(range)) {
        const start = offset - range.offset;
        await fill(this.#aside, bytes.subarray(start, start + length), position, this.#frozen.aside);
      }
      return await use({ bytes });
    });
  }

  async #readImage(bytes: Uint8Array, offset: number, data: readonly number[]): Promise<void> {
    let filled = 0;
    for (let i = 0; i < data.length; i += 2) {
      const [start = 0, length = 0] = [data[i], data[i + 1]];
      bytes.fill(0, filled, start);
      await fill(this.#image, bytes.subarray(start, start + length), offset + start, this.#frozen.image);
      filled = start + length;
    }
    bytes.fill(0, filled);
  }

  async close(): Promise<void> {
    await this.#image.close();
    await this.#aside.close();
  }
}

async function openFile(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r');
  } catch (error) {
    throw ioError(error, 'read', file);
  }
}

async function fill(handle: FileHandle, out: Uint8Array, position: number, file: string): Promise<void> {
  try {
    for (let done = 0; done < out.length; ) {
      const { bytesRead } = await readAt(handle.fd, out, done, out.length - done, position + done);
      if (bytesRead === 0) throw new TimebandError(`${file} ends at byte ${position + done}: it was cut`, { code: 'SOURCE_CHANGED', path: file });
      done += bytesRead;
    }
  } catch (error) {
    throw ioError(error, 'read', file);
  }
}
