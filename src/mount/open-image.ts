/** An image as the FUSE driver is handed it. */
import { isWritable, type ReadableImage, type WritableImage } from '../../bands/store/image.ts';
import type { OpenImage } from '../../fuse/image-tree.ts';

/** Of what `image` can do: reading, and writing if it can be written; `release` when nobody has it open any more. */
export function openImage(image: ReadableImage | WritableImage, release: () => Promise<void>): OpenImage {
  const reading = { sizeBytes: image.sizeBytes, read: image.read.bind(image), release };
  return isWritable(image) ? { ...reading, write: image.write.bind(image), flush: image.flush.bind(image) } : reading;
}
