/** A disk as bytes at offsets: what FUSE and NBD serve. */

/** Where one reader is; one for each open file or connection, so that several readers are each recognised. */
export interface ReadCursor {
  nextOffset: number;
  runBytes: number;
}

export function createCursor(): ReadCursor {
  return { nextOffset: 0, runBytes: 0 };
}

export interface ReadableImage {
  readonly sizeBytes: number;
  /**
   * Fills `out`, which lies within the image, from `offset`; or throws, and nothing of `out` is to be used.
   * @throws TimebandError, which becomes the errno that the reader gets
   */
  read(out: Uint8Array, offset: number, cursor: ReadCursor): Promise<void>;
  /** What is known of a range without reading it, one run behind the other. Absent: nothing. */
  extents?(offset: number, length: number): AsyncIterable<ImageExtent>;
}

/** A run of bytes. */
export interface ImageExtent {
  readonly length: number;
  /** Whether all of them are zeros for certain. */
  readonly isZero: boolean;
}

export interface WritableImage extends ReadableImage {
  /**
   * Writes all of `bytes`, within the image. They are the caller's again once this has settled.
   * @throws TimebandError (NO_SPACE becomes ENOSPC); the range may then hold old bytes, new ones, or a mixture by blocks
   */
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Makes everything durable whose write had ended before. @throws TimebandError if that cannot be vouched for */
  flush(): Promise<void>;
  /** Makes a range zeros without their being sent; it may give room back. Absent: zeros are written. */
  zero?(offset: number, length: number): Promise<void>;
}

export function isWritable<T extends ReadableImage>(image: T): image is T & WritableImage {
  return 'write' in image;
}
