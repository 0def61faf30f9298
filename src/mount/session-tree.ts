/**
 * The tree that a mount shows: NAME/SESSION/image for every volume and session, NAME/latest a link. Slashes in names are
 * folders. The repository is looked at for each request, so new sessions appear by themselves. With a folder for scratch
 * overlays every image can be written; what was written stays until the mount ends.
 */
import { parseSessionId, SESSION_ID_PATTERN } from '../../bands/format/session-id.ts';
import { statIfPresent } from '../../bands/store/files.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import type { SessionImageOptions } from '../../bands/store/session-image.ts';
import type { ImageTree, OpenImage, TreeEntry } from '../../fuse/image-tree.ts';
import type { Repository } from '../repository.ts';
import { holdSession, type ServedSession } from '../served-session.ts';
import type { Volume } from '../volume.ts';
import { IMAGE_NAME } from './mount-point.ts';
import { openImage } from './open-image.ts';

const LATEST = 'latest';
/** How long the list of volumes is taken for true. */
const VOLUMES_TTL_MS = 1000;
/** Sessions whose manifest is kept open. */
const MAX_OPEN_SESSIONS = 256;

/** What a path of the tree names. */
type Place =
  | { readonly kind: 'folder'; readonly names: ReadonlySet<string>; readonly volume: Volume | undefined }
  | { readonly kind: 'latest'; readonly volume: Volume }
  | { readonly kind: 'session' | 'image'; readonly volume: Volume; readonly session: string };

export interface SessionTreeOptions extends SessionImageOptions {
  /** Where scratch overlays are made; undefined: nothing can be written. */
  readonly scratchFolder: string | undefined;
}

export class SessionTree implements ImageTree {
  readonly totalBytes = 0;
  readonly isWritable: boolean;
  readonly #repository: Repository;
  readonly #options: SessionTreeOptions;
  readonly #sessions = new Map<string, Promise<SessionDirectory>>();
  readonly #images = new Map<string, { readonly shared: Promise<ServedSession>; count: number }>();
  #volumes: { readonly atMs: number; readonly list: Promise<readonly Volume[]> } | undefined;

  constructor(repository: Repository, options: SessionTreeOptions) {
    this.isWritable = options.scratchFolder !== undefined;
    this.#repository = repository;
    this.#options = options;
  }

  async #listVolumes(): Promise<readonly Volume[]> {
    const now = performance.now();
    if (this.#volumes === undefined || now - this.#volumes.atMs > VOLUMES_TTL_MS) {
      const list = this.#repository.listVolumes().then(({ volumes }) => volumes);
      this.#volumes = { atMs: now, list };
      list.catch(() => {
        if (this.#volumes?.list === list) this.#volumes = undefined;
      });
    }
    return await this.#volumes.list;
  }

  async #find(path: string): Promise<Place | undefined> {
    const parts = path.split('/').filter((part) => part !== '');
    const name = parts.join('/');
    const volumes = await this.#listVolumes();
    const folder = folderAt(volumes, name);
    if (folder !== undefined) return folder;
    const isImage = parts.at(-1) === IMAGE_NAME;
    const session = parts.at(isImage ? -2 : -1) ?? '';
    const volumeName = parts.slice(0, isImage ? -2 : -1).join('/');
    const volume = volumes.find((one) => one.name === volumeName);
    if (volume === undefined) return undefined;
    if (session === LATEST) return isImage ? undefined : { kind: 'latest', volume };
    if (!SESSION_ID_PATTERN.test(session)) return undefined;
    if ((await statIfPresent(volume.sessionPath(session))) === undefined && !(await volume.sessionIds()).includes(session)) return undefined;
    return { kind: isImage ? 'image' : 'session', volume, session };
  }

  async list(path: string): Promise<readonly string[] | undefined> {
    const place = await this.#find(path);
    if (place?.kind === 'session') return [IMAGE_NAME];
    if (place?.kind !== 'folder') return undefined;
    const sessions = (await place.volume?.sessionIds()) ?? [];
    return [...place.names, ...sessions, ...(sessions.length > 0 ? [LATEST] : [])];
  }

  async look(path: string): Promise<TreeEntry | undefined> {
    const place = await this.#find(path);
    if (place === undefined) return undefined;
    if (place.kind === 'folder') return { kind: 'directory', mtimeMs: sessionTime((await place.volume?.sessionIds())?.at(-1)) };
    if (place.kind === 'session') return { kind: 'directory', mtimeMs: sessionTime(place.session) };
    if (place.kind === 'latest') {
      const newest = (await place.volume.sessionIds()).at(-1);
      return newest === undefined ? undefined : { kind: 'link', mtimeMs: sessionTime(newest), target: newest };
    }
    const session = await this.#openSession(place.volume, place.session);
    return { kind: 'file', mtimeMs: sessionTime(place.session), sizeBytes: session.manifest.sizeBytes };
  }

  async open(path: string): Promise<OpenImage | undefined> {
    const place = await this.#find(path);
    if (place?.kind !== 'image') return undefined;
    const session = await this.#openSession(place.volume, place.session);
    const shared = await this.#share(place.volume, session);
    return openImage(shared.image, () => this.#unshare(place.volume, place.session));
  }

  /** One image, and one lease, for all who have it open. */
  async #share(volume: Volume, session: SessionDirectory): Promise<ServedSession> {
    const key = `${volume.id}@${session.sessionId}`;
    const users = this.#images.get(key) ?? { shared: this.#hold(volume, session), count: 0 };
    this.#images.set(key, users);
    users.count++;
    try {
      return await users.shared;
    } catch (error) {
      users.count--;
      if (users.count === 0) this.#images.delete(key);
      throw error;
    }
  }

  #hold(volume: Volume, session: SessionDirectory): Promise<ServedSession> {
    const { scratchFolder } = this.#options;
    const overlay = scratchFolder === undefined ? undefined : { scratchFolder };
    const open = (): Promise<SessionDirectory> => Promise.resolve(session);
    const held = { repository: this.#repository, volume, sessionId: session.sessionId, open, overlay };
    return holdSession(held, { ...this.#options, command: 'mount' });
  }

  async #unshare(volume: Volume, sessionId: string): Promise<void> {
    const key = `${volume.id}@${sessionId}`;
    const users = this.#images.get(key);
    if (users === undefined || --users.count > 0) return;
    const shared = await users.shared;
    const isWanted = users.count > 0 || shared.isChanged; // opened again meanwhile, or written to
    if (isWanted || this.#images.get(key) !== users) return;
    this.#images.delete(key);
    this.#sessions.delete(key); // and with it the index pages that were read
    await shared.close();
  }

  /** Throws away what was written, and lets go of what was kept for it. */
  async close(): Promise<void> {
    const kept = [...this.#images.values()];
    this.#images.clear();
    for (const { shared } of kept) await (await shared).close();
  }

  #openSession(volume: Volume, id: string): Promise<SessionDirectory> {
    const key = `${volume.id}@${id}`;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    const opening = volume.openSession(id);
    this.#sessions.set(key, opening);
    opening.catch(() => this.#sessions.delete(key));
    const oldest = this.#sessions.keys().next().value;
    if (this.#sessions.size > MAX_OPEN_SESSIONS && oldest !== undefined) this.#sessions.delete(oldest);
    return opening;
  }
}

function sessionTime(id: string | undefined): number {
  return (id === undefined ? undefined : parseSessionId(id)) ?? 0;
}

/** The folder of that name: a volume, or a part of volumes' names before a slash, or both. */
function folderAt(volumes: readonly Volume[], name: string): Place | undefined {
  const prefix = name === '' ? '' : `${name}/`;
  const below = volumes.filter((volume) => volume.name.startsWith(prefix)).map((volume) => volume.name.slice(prefix.length).split('/')[0] ?? '');
  const volume = volumes.find((one) => one.name === name);
  if (name !== '' && volume === undefined && below.length === 0) return undefined;
  return { kind: 'folder', names: new Set(below), volume };
}
