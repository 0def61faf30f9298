/** What the driver serves: a read-only tree of folders, links and images. Where it comes from is the caller's business. */
import type { ReadCursor } from '../bands/store/session-image.ts';

export type TreeEntry =
  | { readonly kind: 'directory'; readonly mtimeMs: number }
  | { readonly kind: 'link'; readonly mtimeMs: number; readonly target: string }
  | { readonly kind: 'file'; readonly mtimeMs: number; readonly sizeBytes: number };

/** An open image. */
export interface OpenImage {
  readonly sizeBytes: number;
  /** Fills `out` completely or throws. */
  read(out: Uint8Array, offset: number, cursor: ReadCursor): Promise<void>;
  release(): Promise<void>;
}

/** Paths begin with "/" and have no trailing slash; absent is undefined. */
export interface ImageTree {
  list(path: string): Promise<readonly string[] | undefined>;
  look(path: string): Promise<TreeEntry | undefined>;
  open(path: string): Promise<OpenImage | undefined>;
  /** Size of all images, for df; 0 if not known. */
  readonly totalBytes: number;
}
