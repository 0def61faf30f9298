/** A session as somebody is served it, by FUSE or NBD: its image, a lease of it, and an overlay if it is to be written. */
import type { ReadableImage, WritableImage } from '../bands/store/image.ts';
import { SessionImage, type SessionImageOptions } from '../bands/store/session-image.ts';
import { Lease } from './leases.ts';
import { type OpenedOverlay, type OverlayChoice, openOverlay } from './overlay.ts';
import type { Repository } from './repository.ts';

export interface SessionChoice {
  readonly volume: string;
  /** A session's id. */
  readonly session: string;
  /** Where what is written goes; undefined: it is read-only. */
  readonly overlay: OverlayChoice | undefined;
}

export interface ServedSession {
  readonly image: ReadableImage | WritableImage;
  /** Makes what was written durable, and lets go of the session. */
  close(): Promise<void>;
}

export interface ServedSessionOptions extends SessionImageOptions {
  /** Who serves it, for whoever wants to delete it. */
  readonly command: string;
}

/** @throws TimebandError VOLUME_NOT_FOUND, SESSION_NOT_FOUND, LOCKED, and as `openOverlay` */
export async function serveSession(repository: Repository, choice: SessionChoice, options: ServedSessionOptions): Promise<ServedSession> {
  const volume = await repository.volume(choice.volume);
  const { locks } = repository.layout;
  const lease = await Lease.take({ locks, volume: volume.name, volumeId: volume.id, sessionId: choice.session, command: options.command });
  try {
    const image = new SessionImage(await volume.openSession(choice.session), options);
    const overlay = choice.overlay === undefined ? undefined : await openOverlay(image, choice.overlay);
    return { image: overlay?.image ?? image, close: () => closeBoth(overlay, lease) };
  } catch (error) {
    await lease.release();
    throw error;
  }
}

async function closeBoth(overlay: OpenedOverlay | undefined, lease: Lease): Promise<void> {
  try {
    await overlay?.close();
  } finally {
    await lease.release();
  }
}
