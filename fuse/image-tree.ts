/** What the driver serves: a tree of folders, links and images. Where it comes from is the caller's business. */
import type { ReadableImage, WritableImage } from '../bands/store/image.ts';

export type TreeEntry =
  | { readonly kind: 'directory'; readonly mtimeMs: number }
  | { readonly kind: 'link'; readonly mtimeMs: number; readonly target: string }
  | { readonly kind: 'file'; readonly mtimeMs: number; readonly sizeBytes: number };

/** An open image; one that can be written, too, is only ever opened for that in a tree that is writable. */
export type OpenImage = (ReadableImage | WritableImage) & { release(): Promise<void> };

/** Paths begin with "/" and have no trailing slash; absent is undefined. */
export interface ImageTree {
  list(path: string): Promise<readonly string[] | undefined>;
  look(path: string): Promise<TreeEntry | undefined>;
  open(path: string): Promise<OpenImage | undefined>;
  /** Size of all images, for df; 0 if not known. */
  readonly totalBytes: number;
  /** Whether images can be written. If not, the kernel refuses it, and the driver knows no operation that writes. */
  readonly isWritable: boolean;
}
