/**
 * Writing over a session: an overlay file of its own, which nothing in the repository knows of. A scratch overlay has no
 * name, so that it is gone with the process, however that ends; a kept one is bound to its session and can be used again.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ioError, TimebandError } from '../bands/errors.ts';
import { equalBytes } from '../bands/format/bytes.ts';
import {
  decodeOverlayHeader,
  deriveOverlayKey,
  encodeOverlayHeader,
  OVERLAY_HEADER_BYTES,
  OVERLAY_SALT_BYTES,
  type OverlayHeader,
  overlayLayout,
} from '../bands/format/overlay.ts';
import { RECORD_NONCE_BYTES } from '../bands/format/record.ts';
import { createDirectories, FILE_MODE, readFully, statIfPresent, syncDirectory, TEMPORARY_PREFIX, writeFully } from '../bands/store/files.ts';
import { OverlayBlocks, type OverlayFile } from '../bands/store/overlay-blocks.ts';
import { OverlayImage } from '../bands/store/overlay-image.ts';
import type { SessionImage } from '../bands/store/session-image.ts';
import { lockDescriptor } from './file-lock.ts';
import { refuseOwnRepository } from './restore-target.ts';
import { loadLibc } from './sources/libc.ts';

/** Where what is written goes: thrown away in the end, or kept in a file that is made if it is not there. */
export type OverlayChoice = { readonly scratchFolder: string } | { readonly file: string };

export interface OpenedOverlay {
  readonly image: OverlayImage;
  /** Makes what was written durable, and lets go of the file. */
  close(): Promise<void>;
}

/** @throws TimebandError TARGET_INVALID (no overlay of that session), LOCKED (in use), NO_SPACE, IO_ERROR */
export async function openOverlay(base: SessionImage, choice: OverlayChoice): Promise<OpenedOverlay> {
  const file = 'file' in choice ? await openKept(base, path.resolve(choice.file)) : await createScratch(base, choice.scratchFolder);
  return {
    image: new OverlayImage(base, file.blocks),
    async close() {
      try {
        if ('file' in choice) await file.blocks.flush();
      } finally {
        await file.handle.close();
      }
    },
  };
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly blocks: OverlayBlocks;
}

/** Its name is taken away at once: whatever ends this process, the kernel then frees the file. */
async function createScratch(base: SessionImage, folder: string): Promise<OpenFile> {
  await createDirectories(folder);
  const file = path.join(folder, `${TEMPORARY_PREFIX}${randomBytes(8).toString('hex')}`);
  const handle = await create(file);
  try {
    await rm(file);
    return { handle, blocks: OverlayBlocks.empty(await begin(base, handle, folder)) };
  } catch (error) {
    await handle.close();
    throw ioError(error, 'make an overlay in', folder);
  }
}

async function openKept(base: SessionImage, file: string): Promise<OpenFile> {
  await refuseOwnRepository({ session: base.session, target: file });
  if ((await statIfPresent(file)) === undefined) await createKept(base, file);
  const handle = await openExisting(file);
  try {
    await lockExclusively(handle, file);
    return { handle, blocks: await OverlayBlocks.load(await checkHeader(base, handle, file)) };
  } catch (error) {
    await handle.close();
    throw ioError(error, 'use the overlay', file);
  }
}

/** The file gets its name when its header is in it. */
async function createKept(base: SessionImage, file: string): Promise<void> {
  const temporary = path.join(path.dirname(file), `${TEMPORARY_PREFIX}${randomBytes(8).toString('hex')}`);
  try {
    await using handle = await create(temporary);
    await begin(base, handle, file);
    await handle.sync();
    await link(temporary, file);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw ioError(error, 'make the overlay', file); // else another command was quicker: what it made is looked at
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(path.dirname(file));
}

async function create(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'wx+', FILE_MODE);
  } catch (error) {
    throw ioError(error, 'make the overlay', file);
  }
}

/** Gives a new file its header and its size. */
async function begin({ session, sizeBytes }: SessionImage, handle: FileHandle, file: string): Promise<OverlayFile> {
  const header: OverlayHeader = {
    sessionId: session.sessionId,
    manifestDigest: session.manifestDigest,
    sizeBytes,
    salt: randomBytes(OVERLAY_SALT_BYTES),
  };
  await writeFully(handle, encodeOverlayHeader(session.context, header, randomBytes(RECORD_NONCE_BYTES)), 0);
  await handle.truncate(overlayLayout(sizeBytes).fileBytes);
  return overlayFile(session, handle, { file, header });
}

function overlayFile(
  session: SessionImage['session'],
  handle: FileHandle,
  { file, header }: { readonly file: string; readonly header: OverlayHeader },
): OverlayFile {
  const key = deriveOverlayKey(session.context.keys, header.salt);
  return { handle, path: file, key, sizeBytes: header.sizeBytes, punchHole: loadLibc()?.punchHole };
}

async function openExisting(file: string): Promise<FileHandle> {
  const handle = await open(file, constants.O_RDWR | constants.O_NONBLOCK).catch((error: unknown) => {
    throw ioError(error, 'open the overlay', file);
  });
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw noOverlay(file, 'it is not a regular file');
}

async function lockExclusively(handle: FileHandle, file: string): Promise<void> {
  const outcome = await lockDescriptor(handle.fd, 'exclusive', file);
  if (outcome === 'locked') return;
  if (outcome === 'held')
    throw new TimebandError(`the overlay ${file} is in use by another process. Close what was opened with it first.`, { code: 'LOCKED', path: file });
  throw new TimebandError(`the overlay ${file} cannot be locked (${outcome}), so it could be used twice at once. Keep it on a local file system.`, {
    code: 'UNSUPPORTED',
    path: file,
  });
}

/** Nothing is written to a file that is not the overlay of this very session. */
async function checkHeader({ session }: SessionImage, handle: FileHandle, file: string): Promise<OverlayFile> {
  const { size } = await handle.stat();
  if (size < OVERLAY_HEADER_BYTES) throw noOverlay(file, `it has ${size} bytes`);
  const bytes = new Uint8Array(OVERLAY_HEADER_BYTES);
  await readFully(handle, bytes, 0, file);
  const header = decode(session, bytes, file);
  if (header.sessionId !== session.sessionId || !equalBytes(header.manifestDigest, session.manifestDigest))
    throw new TimebandError(
      `${file} holds what was written over session ${header.sessionId}${header.sessionId === session.sessionId ? ' of another copy of the repository' : ''}, and fits no other. Open that session with it, or name another file.`,
      { code: 'TARGET_INVALID', path: file },
    );
  if (header.sizeBytes !== session.manifest.sizeBytes || size !== overlayLayout(header.sizeBytes).fileBytes)
    throw noOverlay(file, `it has ${size} bytes, not ${overlayLayout(session.manifest.sizeBytes).fileBytes}: it was cut or added to`);
  return overlayFile(session, handle, { file, header });
}

function decode(session: SessionImage['session'], bytes: Uint8Array, file: string): OverlayHeader {
  try {
    return decodeOverlayHeader(session.context, bytes);
  } catch (cause) {
    throw noOverlay(file, 'its header is not that of one', cause);
  }
}

function noOverlay(file: string, why: string, cause?: unknown): TimebandError {
  return new TimebandError(`${file} is no overlay of this volume: ${why}. It was left as it is; name another file.`, {
    code: 'TARGET_INVALID',
    cause,
    path: file,
  });
}
