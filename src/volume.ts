/** One volume of an open repository: its sessions, and how people name them. */
import path from 'node:path';
import { TimebandError } from '../bands/errors.ts';
import { toHex } from '../bands/format/bytes.ts';
import type { Labels } from '../bands/format/labels.ts';
import { parseSessionId, SESSION_ID_PATTERN } from '../bands/format/session-id.ts';
import type { VolumeRecord } from '../bands/format/volume-record.ts';
import { listRequiredDirectory } from '../bands/store/files.ts';
import { type PageCache, readLabels, SessionDirectory, type VolumeContext } from '../bands/store/session-directory.ts';
import { type VolumeLayout, volumeLayout } from './layout.ts';
import { notAfterMs, parseSessionSpec } from './session-spec.ts';

export class Volume {
  readonly layout: VolumeLayout;
  readonly record: VolumeRecord;
  readonly context: VolumeContext;
  readonly #pageCache: PageCache | undefined;

  constructor(root: string, record: VolumeRecord, options: { readonly context: VolumeContext; readonly pageCache?: PageCache | undefined }) {
    this.layout = volumeLayout(root);
    this.record = record;
    this.context = options.context;
    this.#pageCache = options.pageCache;
  }

  get name(): string {
    return this.record.name;
  }

  /** The volume's id in hex: its folder's name. */
  get id(): string {
    return toHex(this.context.volumeId);
  }

  /** Ids of the committed sessions, oldest first. @throws TimebandError RECORD_MISSING (the folder of the sessions), IO_ERROR */
  async sessionIds(): Promise<string[]> {
    return (await listRequiredDirectory(this.layout.sessions)).filter((name) => SESSION_ID_PATTERN.test(name)).sort();
  }

  sessionPath(sessionId: string): string {
    return path.join(this.layout.sessions, sessionId);
  }

  /** @throws TimebandError RECORD_MISSING, RECORD_CORRUPT */
  async openSession(sessionId: string): Promise<SessionDirectory> {
    return await SessionDirectory.open(this.sessionPath(sessionId), this.context, this.#pageCache);
  }

  async readLabels(sessionId: string): Promise<Labels> {
    return await readLabels(this.sessionPath(sessionId), this.context);
  }

  /**
   * The session that `spec` means: an id, `latest`, `latest~2`, a tag, or a date or time (the newest not after it).
   * @throws TimebandError SESSION_NOT_FOUND
   */
  async resolve(spec = 'latest'): Promise<string> {
    const ids = await this.sessionIds();
    const newest = ids.at(-1);
    if (newest === undefined) throw this.#notFound(`volume "${this.name}" has no session yet; make one with "timeband sync"`);
    const parsed = parseSessionSpec(spec);
    const found =
      parsed.kind === 'tag'
        ? await this.#newestWithTag(ids, parsed.tag)
        : parsed.kind === 'back'
          ? ids.at(-1 - parsed.steps)
          : newestNotAfter(ids, parsed);
    if (found !== undefined) return found;
    throw this.#notFound(
      `volume "${this.name}" has no session "${spec}". Its ${ids.length} session(s) run from ${ids[0]} to ${newest}; see "timeband sessions ${this.name}".`,
    );
  }

  #notFound(message: string): TimebandError {
    return new TimebandError(message, { code: 'SESSION_NOT_FOUND' });
  }

  async #newestWithTag(ids: readonly string[], tag: string): Promise<string | undefined> {
    for (const id of ids.toReversed()) {
      const labels = await this.readLabels(id).catch(() => undefined); // damaged ones must not hide the others; check reports them
      if (labels?.tags.includes(tag) === true) return id;
    }
    return undefined;
  }
}

function newestNotAfter(
  ids: readonly string[],
  spec: { readonly kind: 'id'; readonly id: string } | { readonly kind: 'time'; readonly text: string },
): string | undefined {
  if (spec.kind === 'id') return ids.find((id) => id === spec.id);
  const limit = notAfterMs(spec.text);
  return limit === undefined ? undefined : ids.findLast((id) => (parseSessionId(id) ?? Number.POSITIVE_INFINITY) <= limit);
}
