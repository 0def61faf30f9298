/** A session as somebody is served it, by FUSE or NBD: its image, a lease of it, and an overlay if it is to be written. */
import type { ReadableImage, WritableImage } from '../bands/store/image.ts';
import type { SessionDirectory } from '../bands/store/session-directory.ts';
import { SessionImage, type SessionImageOptions } from '../bands/store/session-image.ts';
import { Lease } from './leases.ts';
import { type OpenedOverlay, type OverlayChoice, openOverlay } from './overlay.ts';
import type { Repository } from './repository.ts';
import type { Volume } from './volume.ts';

export interface SessionChoice {
  readonly volume: string;
  /** A session's id. */
  readonly session: string;
  /** Where what is written goes; undefined: it is read-only. */
  readonly overlay: OverlayChoice | undefined;
}

export interface ServedSession {
  readonly image: ReadableImage | WritableImage;
  /** Whether something was written over it. */
  readonly isChanged: boolean;
  /** Makes what was written durable, and lets go of the session. */
  close(): Promise<void>;
}

export interface ServedSessionOptions extends SessionImageOptions {
  /** Who serves it, for whoever wants to delete it. */
  readonly command: string;
}

/** @throws TimebandError VOLUME_NOT_FOUND, SESSION_NOT_FOUND, LOCKED, and as `openOverlay` */
export async function serveSession(repository: Repository, choice: SessionChoice, options: ServedSessionOptions): Promise<ServedSession> {
  const { session, overlay } = choice;
  const volume = await repository.volume(choice.volume);
  return await holdSession({ repository, volume, sessionId: session, open: () => volume.openSession(session), overlay }, options);
}

/** A session of a volume that is known already. */
export interface HeldSession {
  readonly repository: Repository;
  readonly volume: Volume;
  readonly sessionId: string;
  /** Called when the lease is held. */
  readonly open: () => Promise<SessionDirectory>;
  readonly overlay: OverlayChoice | undefined;
}

/** @throws TimebandError SESSION_NOT_FOUND, LOCKED, and as `openOverlay` */
export async function holdSession(held: HeldSession, options: ServedSessionOptions): Promise<ServedSession> {
  const { repository, volume, sessionId } = held;
  const { locks } = repository.layout;
  const lease = await Lease.take({ locks, volume: volume.name, volumeId: volume.id, sessionId, command: options.command });
  try {
    const image = new SessionImage(await held.open(), options);
    const overlay = held.overlay === undefined ? undefined : await openOverlay(image, held.overlay);
    return {
      image: overlay?.image ?? image,
      get isChanged() {
        return overlay?.image.isUnchanged === false;
      },
      close: () => closeBoth(overlay, lease),
    };
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
