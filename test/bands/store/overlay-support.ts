/** An overlay over a disk in memory, in a real file. */
import { randomBytes } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { overlayLayout } from '../../../bands/format/overlay.ts';
import { createCursor, type ReadableImage } from '../../../bands/store/image.ts';
import { OverlayBlocks } from '../../../bands/store/overlay-blocks.ts';
import { OverlayImage } from '../../../bands/store/overlay-image.ts';
import { loadLibc } from '../../../src/sources/libc.ts';

/** An image over bytes, which it never changes. */
export function memoryImage(bytes: Uint8Array): ReadableImage {
  return { sizeBytes: bytes.length, read: (out, offset) => Promise.resolve(void out.set(bytes.subarray(offset, offset + out.length))) };
}

export interface OverlayRig {
  readonly handle: FileHandle;
  readonly image: OverlayImage;
  /** Whatever was not flushed is forgotten, as after a crash: another overlay over the same file. */
  reopened(): Promise<OverlayImage>;
}

export async function overlayRig(t: ExecutionContext, file: string, base: Uint8Array, options: { canPunch?: boolean } = {}): Promise<OverlayRig> {
  const handle = await open(file, 'wx+', 0o600);
  t.teardown(() => handle.close().catch(() => undefined)); // a test may have closed it
  await handle.truncate(overlayLayout(base.length).fileBytes);
  const punchHole = options.canPunch === false ? undefined : loadLibc()?.punchHole;
  const parts = { handle, path: file, key: randomBytes(64), sizeBytes: base.length, punchHole };
  return {
    handle,
    image: new OverlayImage(memoryImage(base), OverlayBlocks.empty(parts)),
    reopened: async () => new OverlayImage(memoryImage(base), await OverlayBlocks.load(parts)),
  };
}

export async function readAll(image: OverlayImage): Promise<Uint8Array> {
  const out = new Uint8Array(image.sizeBytes);
  await image.read(out, 0, createCursor());
  return out;
}
