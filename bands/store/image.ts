/** A disk as bytes at offsets: what FUSE and NBD serve. */

/** What was read in order, or nearly so. */
export interface ReadRun {
  /** Behind the last byte that was asked for. */
  nextOffset: number;
  /** Where the last request began. */
  lastOffset: number;
  isBackward: boolean;
  bytes: number;
  /** The band from which on bands were decoded ahead for it. */
  bandIndex: number | undefined;
}

/** Where the readers of one open file or connection are, those that were heard of last first. */
export interface ReadCursor {
  readonly runs: ReadRun[];
}

export function createCursor(): ReadCursor {
  return { runs: [] };
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
