/**
 * What the machine that stores a repository can verify without any key: the public files parse, folders hold what they
 * should, and every sealed file has its checksum. It cannot know whether a file is missing or an older one was put back.
 */
import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { ioError, TimebandError } from '../../bands/errors.ts';
import { NAME_PATTERN } from '../../bands/format/names.ts';
import { SESSION_ID_PATTERN } from '../../bands/format/session-id.ts';
import { statIfPresent, TEMPORARY_PREFIX } from '../../bands/store/files.ts';
import { SESSION_FILES } from '../../bands/store/session-directory.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { forEachBounded } from '../../bands/workers/bounded.ts';
import { SLOT_NAME } from '../keys/slots.ts';
import { repositoryLayout, volumeLayout } from '../layout.ts';
import type { OnProgress } from '../progress.ts';
import { readConfig } from '../repository-config.ts';
import { checkSlots } from './check-slots.ts';
import { type CheckResult, type Finding, finding } from './findings.ts';

export interface KeylessCheckOptions {
  readonly pool: BandPool;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

/** @throws TimebandError REPOSITORY_NOT_FOUND, INTERRUPTED */
export async function checkWithoutKey(root: string, options: KeylessCheckOptions): Promise<CheckResult> {
  const startedAt = performance.now();
  const layout = repositoryLayout(path.resolve(root));
  const { digest } = await readConfig(layout);
  const run = new KeylessRun(options);
  await run.checkKeys(layout.keys, digest);
  for (const id of await run.entries(layout.volumes, { volume: 'volumes' }, (name) => NAME_PATTERN.test(name)))
    await run.checkVolume(path.join(layout.volumes, id), id);
  return {
    sessions: run.sessions,
    plannedSessions: run.sessions,
    finishedSessions: run.sessions,
    skippedFiles: 0,
    isOutOfTime: false,
    verified: [], // nothing can be written without the key
    clearedBands: 0, // the list is sealed
    warnings: [],
    bandFiles: run.files,
    readBytes: run.readBytes,
    findings: run.findings,
    durationMs: Math.round(performance.now() - startedAt),
  };
}

interface Where {
  readonly volume: string;
  readonly session?: string;
}

class KeylessRun {
  readonly findings: Finding[] = [];
  sessions = 0;
  files = 0;
  readBytes = 0;
  readonly #options: KeylessCheckOptions;
  readonly #seen = new Map<string, TimebandError | undefined>();

  constructor(options: KeylessCheckOptions) {
    this.#options = options;
  }

  /** The names in a folder that are as expected; the others are findings, unfinished files are passed over. */
  async entries(directory: string, where: Where, isExpected: (name: string) => boolean): Promise<string[]> {
    try {
      const names = (await readdir(directory)).filter((name) => !name.startsWith(TEMPORARY_PREFIX)).sort();
      for (const name of names) if (!isExpected(name)) this.#unexpected(path.join(directory, name), where);
      return names.filter(isExpected);
    } catch (error) {
      this.findings.push(finding(where, ioError(error, 'list', directory)));
      return [];
    }
  }

  #unexpected(file: string, where: Where): void {
    this.findings.push(finding(where, new TimebandError(`${file}: not of this repository's making`, { code: 'RECORD_CORRUPT', path: file })));
  }

  async checkKeys(directory: string, configDigest: Uint8Array): Promise<void> {
    await this.entries(directory, { volume: 'keys' }, (name) => SLOT_NAME.test(name));
    this.findings.push(...(await checkSlots(directory, configDigest)));
  }

  async checkVolume(root: string, id: string): Promise<void> {
    const layout = volumeLayout(root);
    await this.#checkFile(layout.record, { volume: id });
    await this.#checkOptional(layout.damaged, { volume: id });
    for (const session of await this.entries(layout.sessions, { volume: id }, (name) => SESSION_ID_PATTERN.test(name))) {
      this.sessions++;
      await this.#checkSession(path.join(layout.sessions, session), { volume: id, session });
    }
  }

  async #checkSession(directory: string, where: Where): Promise<void> {
    await this.#checkFile(path.join(directory, SESSION_FILES.manifest), where);
    await this.#checkFile(path.join(directory, SESSION_FILES.bitmap), where);
    await this.#checkOptional(path.join(directory, SESSION_FILES.labels), where);
    for (const part of [SESSION_FILES.index, SESSION_FILES.bands]) {
      const folder = path.join(directory, part);
      const names = await this.entries(folder, where, (name) => NAME_PATTERN.test(name));
      await forEachBounded(names, this.#options.pool.capacity, (name) => this.#checkFile(path.join(folder, name), where));
    }
  }

  async #checkOptional(file: string, where: Where): Promise<void> {
    if ((await statIfPresent(file)) !== undefined) await this.#checkFile(file, where);
  }

  async #checkFile(file: string, where: Where): Promise<void> {
    if (this.#options.signal?.aborted === true) throw new TimebandError('interrupted; the check is incomplete.', { code: 'INTERRUPTED' });
    const error = await this.#damageOf(file);
    if (error !== undefined) this.findings.push(finding(where, error));
    this.#options.onProgress?.({ phase: 'check', doneBands: this.files, totalBands: 0, doneBytes: this.readBytes, totalBytes: 0 });
  }

  async #damageOf(file: string): Promise<TimebandError | undefined> {
    let inode: string;
    try {
      const stat = lstatSync(file, { bigint: true });
      if (!stat.isFile())
        return new TimebandError(`${file}: not a regular file; a repository holds no links or devices`, { code: 'RECORD_CORRUPT', path: file });
      inode = `${stat.dev}:${stat.ino}`;
      if (this.#seen.has(inode)) return this.#seen.get(inode);
      this.files++;
      this.readBytes += Number(stat.size);
    } catch (error) {
      return ioError(error, 'look at', file);
    }
    const error = await this.#options.pool
      .run('checkCrc', { file })
      .catch((cause: unknown) => (cause instanceof TimebandError ? cause : ioError(cause, 'check', file)));
    this.#seen.set(inode, error);
    return error;
  }
}
