/**
 * The catalog: this machine's LevelDB database beside the repository. It caches index pages, manifests and what
 * lists show of sessions, and remembers sources and the newest session of each volume. All of it but the last can be rebuilt from the repository.
 *
 * LevelDB lets one process in at a time, so the database is open only while something is asked of it: two syncs and a
 * mount take turns within milliseconds. A catalog that cannot be had is done without, never waited for long.
 */
import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Level } from 'level';
import { messageOf } from '../bands/errors.ts';
import { concat, equalBytes, fromHex, toHex, u64be, utf8, viewOf } from '../bands/format/bytes.ts';
import { ID_BYTES } from '../bands/format/keys.ts';
import { DIGEST_BYTES } from '../bands/format/manifest.ts';
import { createDirectories, tryToRemove } from '../bands/store/files.ts';
import type { PageCache } from '../bands/store/session-directory.ts';

type Database = Level<string, Uint8Array>;

const HINT_NUMBER_BYTES = 8;
const OPEN_ATTEMPTS = 60;
const RETRY_MS = 25;
/** The database is closed after this long without a request, so that others get their turn. */
const IDLE_MS = 40;

/** The newest session of a volume that this machine has seen. */
export interface NewestSession {
  readonly sessionId: string;
  readonly manifestDigest: Uint8Array;
}

export interface RememberedSource {
  readonly kind: string;
  readonly location: string;
}

/** A band of some volume of a key domain: of its newest session, unless that has changed since. */
export interface DomainHint {
  readonly volumeId: string;
  readonly bandIndex: number;
}

/** An index page of a volume in a key domain, by the digest of its sealed file. */
export interface DomainPage {
  readonly volumeId: string;
  readonly pageNumber: number;
  readonly digest: Uint8Array;
}

export class Catalog {
  readonly #directory: string;
  readonly #warn: (message: string) => void;
  #database: Promise<Database> | undefined;
  #users = 0;
  #idle: NodeJS.Timeout | undefined;
  #closing: Promise<void> = Promise.resolve();
  #hasWarned = false;
  /** Another process has it now and then; any other failure is for good, and so is having none. */
  #isUnusable = false;

  /** @param warn told once of each problem; a catalog never makes a command fail */
  constructor(stateDirectory: string, repositoryId: string, warn: (message: string) => void) {
    this.#directory = path.join(stateDirectory, repositoryId, 'catalog');
    this.#warn = warn;
  }

  /** One that keeps nothing and remembers nothing. */
  static none(): Catalog {
    const catalog = new Catalog('', '', () => undefined);
    catalog.#isUnusable = true;
    return catalog;
  }

  /** Whether anything is kept at all. */
  get isKept(): boolean {
    return !this.#isUnusable;
  }

  async #use<T>(run: (database: Database) => Promise<T>): Promise<T | undefined> {
    if (this.#isUnusable) return undefined;
    this.#users++;
    clearTimeout(this.#idle);
    try {
      return await run(await this.#opened());
    } catch (error) {
      this.#isUnusable = causeCode(error) !== 'LEVEL_LOCKED';
      if (isDamage(error)) await this.#putAsideQuietly();
      if (!this.#hasWarned)
        this.#warn(
          `the catalog in ${this.#directory} could not be used: ${messageOf(error)}. It is a cache; going on without it. Delete that folder if this happens again.`,
        );
      this.#hasWarned = true;
      return undefined;
    } finally {
      this.#users--;
      if (this.#users === 0) this.#idle = setTimeout(() => void this.close(), IDLE_MS);
    }
  }

  async #opened(): Promise<Database> {
    await this.#closing;
    this.#database ??= this.#open();
    const opening = this.#database;
    try {
      return await opening;
    } catch (error) {
      if (this.#database === opening) this.#database = undefined; // a failed attempt is not kept
      throw error;
    }
  }

  async #open(): Promise<Database> {
    await createDirectories(this.#directory);
    const { Level } = await import('level'); // 20 ms, which commands that need no catalog save
    for (let attempt = 1; ; attempt++) {
      const database: Database = new Level(this.#directory, { keyEncoding: 'utf8', valueEncoding: 'view' });
      try {
        await database.open();
        return database;
      } catch (error) {
        await database.close();
        const code = causeCode(error);
        if (code === 'LEVEL_CORRUPTION' && attempt < OPEN_ATTEMPTS) await this.#putAside();
        else if (code !== 'LEVEL_LOCKED' || attempt >= OPEN_ATTEMPTS) throw error;
        else await sleep(RETRY_MS + Math.random() * RETRY_MS);
      }
    }
  }

  /** The next command then begins a new one. */
  async #putAsideQuietly(): Promise<void> {
    const database = this.#database;
    this.#database = undefined;
    await database?.then((opened) => opened.close()).catch(() => undefined); // it is damaged: closing may fail as well
    await tryToRemove(`${this.#directory}.damaged`);
    await rename(this.#directory, `${this.#directory}.damaged`).catch(() => undefined); // somebody else has put it aside
  }

  async #putAside(): Promise<void> {
    const aside = `${this.#directory}.damaged`;
    await rm(aside, { recursive: true, force: true });
    await rename(this.#directory, aside);
    this.#warn(
      `the catalog was damaged; it was put aside as ${aside} and is built anew. Whether sessions were rolled back meanwhile cannot be told this once.`,
    );
    await createDirectories(this.#directory);
  }

  /** Closes the database now; the next request opens it again. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const database = this.#database;
    this.#database = undefined;
    if (database === undefined) return await this.#closing;
    this.#closing = database.then((opened) => opened.close()).catch(() => undefined); // one that never opened has been reported
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async source(volumeId: string): Promise<RememberedSource | undefined> {
    const json = decodeJson(await this.#use((database) => database.get(`source!${volumeId}`)));
    return typeof json?.['kind'] === 'string' && typeof json['location'] === 'string'
      ? { kind: json['kind'], location: json['location'] }
      : undefined;
  }

  async rememberSource(volumeId: string, source: RememberedSource): Promise<void> {
    await this.#use((database) => database.put(`source!${volumeId}`, utf8(JSON.stringify({ kind: source.kind, location: source.location }))));
  }

  /** Durable when it returns: if a deletion outlives a power cut and this does not, the next sync takes it for a rollback. */
  async forgetNewest(volumeId: string): Promise<void> {
    await this.#use((database) => database.del(`newest!${volumeId}`, { sync: true }));
  }

  async newest(volumeId: string): Promise<NewestSession | undefined> {
    const value = await this.#use((database) => database.get(`newest!${volumeId}`));
    if (value === undefined || value.length <= DIGEST_BYTES) return undefined;
    return { sessionId: new TextDecoder().decode(value.subarray(DIGEST_BYTES)), manifestDigest: value.slice(0, DIGEST_BYTES) };
  }

  /** With `isDurable`, durable when it returns, which an older session than was remembered has to be. */
  async rememberNewest(volumeId: string, newest: NewestSession, { isDurable = false }: { readonly isDurable?: boolean } = {}): Promise<void> {
    const value = concat(newest.manifestDigest, utf8(newest.sessionId));
    await this.#use((database) => database.put(`newest!${volumeId}`, value, { sync: isDurable }));
  }

  /** Index pages of a volume's newest session, by page number; a page counts only under the digest that it is asked for. */
  pageCache(volumeId: string): PageCache {
    return {
      get: async (pageNumber, sealedDigest) => {
        const value = await this.#use((database) => database.get(pageKey(volumeId, pageNumber)));
        const isSame = value !== undefined && equalBytes(value.subarray(0, DIGEST_BYTES), sealedDigest);
        return isSame ? value.slice(DIGEST_BYTES) : undefined;
      },
    };
  }

  async rememberPages(volumeId: string, pages: ReadonlyMap<number, { readonly digest: Uint8Array; readonly entries: Uint8Array }>): Promise<void> {
    const puts = [...pages].map(([pageNumber, page]) => ({
      type: 'put' as const,
      key: pageKey(volumeId, pageNumber),
      value: concat(page.digest, page.entries),
    }));
    if (puts.length > 0) await this.#use((database) => database.batch(puts));
  }

  /** Where a key domain has bands: what `SharedBands` looks up. Hints, to be proven by the index of a session. */
  async domainHint(domain: string, digest: Uint8Array): Promise<DomainHint | undefined> {
    const value = await this.#use((database) => database.get(`${digestPrefix(domain)}${toHex(digest)}`));
    if (value?.length !== ID_BYTES + HINT_NUMBER_BYTES) return undefined;
    return { volumeId: toHex(value.subarray(0, ID_BYTES)), bandIndex: Number(viewOf(value).getBigUint64(ID_BYTES)) };
  }

  /** The digests that a key domain is known to hold. @returns how many there are */
  async eachDomainDigest(domain: string, take: (digest: Uint8Array) => void): Promise<number> {
    const prefix = digestPrefix(domain);
    const counted = await this.#use(async (database) => {
      let count = 0;
      for await (const key of database.keys({ gte: prefix, lt: `${prefix}~` })) {
        const digest = fromHex(key.slice(prefix.length), DIGEST_BYTES);
        if (digest === undefined) continue;
        take(digest);
        count++;
      }
      return count;
    });
    return counted ?? 0;
  }

  /** Whether the bands of an index page are among the domain's hints. */
  async isPageInDomain(domain: string, page: DomainPage): Promise<boolean> {
    const value = await this.#use((database) => database.get(domainPageKey(domain, page)));
    return value !== undefined && equalBytes(value, page.digest);
  }

  /** Adds the bands of an index page. */
  async addPageToDomain(
    domain: string,
    page: DomainPage,
    bands: Iterable<{ readonly digest: Uint8Array; readonly bandIndex: number }>,
  ): Promise<void> {
    const prefix = digestPrefix(domain);
    const id = fromHex(page.volumeId, ID_BYTES) ?? new Uint8Array(ID_BYTES);
    const puts = Array.from(bands, ({ digest, bandIndex }) => ({
      type: 'put' as const,
      key: `${prefix}${toHex(digest)}`,
      value: concat(id, u64be(bandIndex)),
    }));
    await this.#use((database) => database.batch([...puts, { type: 'put', key: domainPageKey(domain, page), value: page.digest }]));
  }

  /** Forgets a domain's hints: they are gathered anew by the next sync into it. */
  async forgetDomain(domain: string): Promise<void> {
    await this.#use((database) => database.clear({ gte: `domain!${domain}!`, lt: `domain!${domain}!~` }));
  }

  /** What was kept of sessions for lists, by session id. */
  async sessions(volumeId: string, sessionIds: readonly string[]): Promise<Map<string, Uint8Array>> {
    const values = await this.#use((database) => database.getMany(sessionIds.map((id) => sessionKey(volumeId, id))));
    const kept = new Map<string, Uint8Array>();
    for (const [i, id] of sessionIds.entries()) {
      const value = values?.[i];
      if (value !== undefined) kept.set(id, value);
    }
    return kept;
  }

  async rememberSessions(volumeId: string, kept: ReadonlyMap<string, Uint8Array>): Promise<void> {
    await this.#putAll([...kept].map(([id, value]) => ({ key: sessionKey(volumeId, id), value })));
  }

  /** The plaintext that was seen last of a session's manifest. */
  async manifest(volumeId: string, sessionId: string): Promise<Uint8Array | undefined> {
    return await this.#use((database) => database.get(`manifest!${volumeId}!${sessionId}`));
  }

  /** @param manifests plaintexts, by session id */
  async rememberManifests(volumeId: string, manifests: ReadonlyMap<string, Uint8Array>): Promise<void> {
    await this.#putAll([...manifests].map(([id, value]) => ({ key: `manifest!${volumeId}!${id}`, value })));
  }

  /** Drops what was cached of a volume: manifests, lists and index pages. What was seen and where it came from, is no cache and stays. */
  async dropCaches(volumeId: string): Promise<void> {
    for (const kind of ['manifest', 'session', 'page']) {
      const range = { gte: `${kind}!${volumeId}!`, lt: `${kind}!${volumeId}"` }; // '"' follows '!'
      await this.#use((database) => database.clear(range));
    }
  }

  async #putAll(entries: readonly { readonly key: string; readonly value: Uint8Array }[]): Promise<void> {
    if (entries.length > 0) await this.#use((database) => database.batch(entries.map((entry) => ({ type: 'put' as const, ...entry }))));
  }
}

function digestPrefix(domain: string): string {
  return `domain!${domain}!digest!`;
}

function domainPageKey(domain: string, { volumeId, pageNumber }: DomainPage): string {
  return `domain!${domain}!${pageKey(volumeId, pageNumber)}`;
}

function sessionKey(volumeId: string, sessionId: string): string {
  return `session!${volumeId}!${sessionId}`;
}

function pageKey(volumeId: string, pageNumber: number): string {
  return `page!${volumeId}!${toHex(Uint8Array.of(pageNumber >>> 24, pageNumber >>> 16, pageNumber >>> 8, pageNumber))}`;
}

/** Whether LevelDB says that its files are damaged or gone, and not merely busy or out of reach. */
function isDamage(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const codes = [error, cause].map((one) => (typeof one === 'object' && one !== null && 'code' in one ? one.code : undefined));
  return codes.includes('LEVEL_CORRUPTION') || (codes.includes('LEVEL_IO_ERROR') && messageOf(cause ?? error).includes('No such file'));
}

function causeCode(error: unknown): unknown {
  const cause = error instanceof Error ? error.cause : undefined;
  return typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined;
}

function decodeJson(value: Uint8Array | undefined): Record<string, unknown> | undefined {
  if (value === undefined) return undefined;
  try {
    const json: unknown = JSON.parse(new TextDecoder().decode(value));
    return typeof json === 'object' && json !== null ? { ...json } : undefined;
  } catch {
    return undefined; // a cache entry that is no JSON is no entry
  }
}
